// The one small write that a medium keeps for the thread that submitted it to do itself, outside of the owner's lock.
//
// A synchronous write is back some 20 us earlier than one that goes through the kernel's queue and returns as an event, and the
// thread would only sleep or spin beside it. On a device that takes its time that is no gain: after a slow one none is kept for a
// while. See Medium::carry_out().
#pragma once

#include <atomic>
#include <optional>

#include "stp/medium.h"

namespace stp {

class PromptWrite {
 public:
  // -- Under the owner's lock
  // Keeps the request; false when there is one already.
  bool keep(const IoRequest& request);
  // Gives the request back, unless a thread is doing it.
  std::optional<IoRequest> let_go();
  std::optional<IoCompletion> reap();

  // -- Any thread
  // Does the request that is kept; false when there was none.
  bool carry_out(int fd, std::uint32_t block_size);
  bool kept() const { return state_.load(std::memory_order_relaxed) == State::kKept; }
  bool done() const { return state_.load() == State::kDone; }
  bool empty() const { return state_.load() == State::kNone; }

 private:
  static constexpr Nanos kSlow = kMillisecond;
  static constexpr Nanos kRest = 100 * kMillisecond;
  enum class State : std::uint8_t { kNone, kKept, kWriting, kDone };
  std::atomic<State> state_{State::kNone};
  IoRequest request_;
  int error_ = 0;
  std::atomic<Nanos> not_before_{0};
};

}  // namespace stp
