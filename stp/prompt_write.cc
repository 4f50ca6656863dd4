#include "stp/prompt_write.h"

#include <pthread.h>

#include "stp/system.h"
#include "stp/transfer.h"

namespace stp {

bool PromptWrite::keep(const IoRequest& request) {
  if (!empty() || boottime_now() < not_before_.load(std::memory_order_relaxed)) return false;
  request_ = request;
  state_.store(State::kKept, std::memory_order_release);
  return true;
}

std::optional<IoRequest> PromptWrite::let_go() {
  State kept = State::kKept;
  if (!state_.compare_exchange_strong(kept, State::kWriting, std::memory_order_acq_rel)) return std::nullopt;
  const IoRequest request = request_;
  state_.store(State::kNone, std::memory_order_release);
  return request;
}

std::optional<IoCompletion> PromptWrite::reap() {
  if (!done()) return std::nullopt;
  const IoCompletion completion{.token = request_.token, .error = error_};
  state_.store(State::kNone, std::memory_order_release);
  return completion;
}

bool PromptWrite::carry_out(int fd, std::uint32_t block_size) {
  State kept = State::kKept;
  if (!state_.compare_exchange_strong(kept, State::kWriting, std::memory_order_acq_rel)) return false;
  int cancelable = 0;
  (void)::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);  // half a call must not be left behind
  const Nanos began = boottime_now();
  error_ = transfer(fd, request_, block_size);
  const Nanos ended = boottime_now();
  (void)::pthread_setcancelstate(cancelable, nullptr);
  if (ended - began >= kSlow) not_before_.store(ended + kRest, std::memory_order_relaxed);
  state_.store(State::kDone);
  return true;
}

}  // namespace stp
