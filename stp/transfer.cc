#include "stp/transfer.h"

#include <unistd.h>

#include <cerrno>

namespace stp {

int check_request(const IoRequest& request, std::uint32_t block_size, std::uint64_t total_blocks) {
  if (request.blocks == 0 || request.blocks > kMaxRequestBytes / block_size) return EINVAL;
  if (request.block >= total_blocks || request.blocks > total_blocks - request.block) return EINVAL;
  if (request.buffer == nullptr || reinterpret_cast<std::uintptr_t>(request.buffer) % kBufferAlignment != 0) return EINVAL;
  return 0;
}

int transfer(int fd, const IoRequest& request, std::uint32_t block_size) {
  const std::size_t size = static_cast<std::size_t>(request.blocks) * block_size;
  const auto offset = static_cast<off_t>(request.block * block_size);
  ssize_t moved;
  do {
    moved = request.op == IoRequest::Op::kRead ? ::pread(fd, request.buffer, size, offset) : ::pwrite(fd, request.buffer, size, offset);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) return errno;
  return static_cast<std::size_t>(moved) == size ? 0 : EIO;
}

}  // namespace stp
