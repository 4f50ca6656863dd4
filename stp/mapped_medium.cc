#include "stp/mapped_medium.h"

#include <sched.h>

#include <cerrno>

#include "stp/system.h"
#include "stp/transfer.h"

namespace stp {
namespace {

constexpr Nanos kYieldEvery = 20 * kMicrosecond;

}  // namespace

MappedMedium::MappedMedium(std::shared_ptr<const Mapping> mapping, std::uint32_t block_size, std::uint64_t total_blocks)
    : mapping_(std::move(mapping)), block_size_(block_size), total_blocks_(total_blocks) {}

int MappedMedium::execute(const IoRequest& request) {
  if (failed_) return EIO;
  if (const int error = check_request(request, block_size_, total_blocks_); error != 0) return error;
  const std::uint64_t offset = request.block * block_size_;
  const std::size_t size = std::size_t{request.blocks} * block_size_;
  if (size > mapping_->size() || offset > mapping_->size() - size) return EIO;
  if (request.op == IoRequest::Op::kWrite && !mapping_->writable()) return EBADF;
  const bool copied = request.op == IoRequest::Op::kRead ? mapping_->copy_out(offset, {request.buffer, size})
                                                         : mapping_->copy_in(offset, {request.buffer, size});
  failed_ = !copied;
  return copied ? 0 : EIO;
}

void MappedMedium::submit(const IoRequest& request) {
  done_.push_back({request.token, execute(request)});
  done_count_.fetch_add(1);
  bell_.tell_sleeper();
}

std::size_t MappedMedium::reap(std::span<IoCompletion> out) {
  std::size_t count = 0;
  while (count < out.size() && !done_.empty()) {
    out[count++] = done_.front();
    done_.pop_front();
  }
  done_count_.fetch_sub(count);
  return count;
}

void MappedMedium::wait(Nanos deadline, Nanos spin) {
  if (done_count_.load() > 0) {
    // Completions are always there at once, so a caller that looks at its peer again and again never sleeps here; the
    // peer may need this very processor to answer.
    const Nanos now = boottime_now();
    if (now - yielded_at_ < kYieldEvery) return;
    ::sched_yield();
    yielded_at_ = now;
    return;
  }
  bell_.wait(deadline, spin, [this] { return done_count_.load() > 0; });
}

}  // namespace stp
