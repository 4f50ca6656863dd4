#include "fuse/receiver.h"

#include <linux/fuse.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>

namespace stp::view {
namespace {

constexpr std::uint32_t kMuch = 32u << 10;  // bytes that take about as long to move as a thread takes to wake up

// One session a process.
thread_local bool has_turn = false;

bool moves_much(const void* request, std::size_t size) {
  fuse_in_header header = {};
  if (size < sizeof header) return false;
  std::memcpy(&header, request, sizeof header);
  if (header.opcode == FUSE_WRITE) return header.len >= kMuch;
  fuse_read_in read = {};
  if (header.opcode != FUSE_READ || size < sizeof header + sizeof read) return false;
  std::memcpy(&read, static_cast<const char*>(request) + sizeof header, sizeof read);
  return read.size >= kMuch;
}

}  // namespace

ssize_t Receiver::read(int device, void* room, std::size_t size) {
  while (!has_turn) {
    if (::sem_wait(&turn_) == 0)
      has_turn = true;
    else if (errno != EINTR)
      return -1;
  }
  pollfd look = {.fd = device, .events = POLLIN, .revents = 0};
  (void)spin_.run(std::numeric_limits<Nanos>::max(), kLongestSpin, [&] { return ::poll(&look, 1, 0) != 0; });
  const ssize_t got = ::read(device, room, size);
  if (got > 0 && moves_much(room, static_cast<std::size_t>(got))) {
    has_turn = false;
    (void)::sem_post(&turn_);
  }
  return got;
}

}  // namespace stp::view
