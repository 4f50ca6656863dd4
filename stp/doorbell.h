// How one thread of this process sleeps until another has something for it. One waiter at a time, any number of
// ringers. A futex inside, and no system call while nobody sleeps.
#pragma once

#include <atomic>
#include <cstdint>

#include "stp/spin.h"

namespace stp {

class Doorbell {
 public:
  // The waiter returns, now or at its next wait. Never lost.
  void ring();
  // For news that the waiter's `ready` sees by itself: publish first (sequentially consistent), then call this.
  void tell_sleeper();

  // Returns when ready() is true, after ring(), or at `deadline` (CLOCK_BOOTTIME); sometimes early. Looks and yields
  // for up to `spin` nanoseconds before it sleeps.
  template <class IsReady>
  void wait(Nanos deadline, Nanos spin, IsReady ready) {
    if (ready() || taken()) return;
    if (spin_.run(deadline, spin, [&] { return ready() || taken(); })) return;
    std::uint32_t quiet = kQuiet;
    if (!state_.compare_exchange_strong(quiet, kAsleep)) {
      state_.store(kQuiet);
      return;
    }
    // Between the first look and the mark somebody may have published and found nobody asleep.
    if (!ready()) sleep(deadline);
    state_.store(kQuiet);
  }

 private:
  static constexpr std::uint32_t kQuiet = 0, kRung = 1, kAsleep = 2;
  bool taken() { return state_.load() == kRung && state_.exchange(kQuiet) == kRung; }
  void sleep(Nanos deadline);
  std::atomic<std::uint32_t> state_{kQuiet};
  Spin spin_;
};

// The longest sleep at a stretch: timers of the kernel stand still while the machine is suspended, deadlines do not.
inline constexpr Nanos kLongestSleep = 10 * kSecond;

}  // namespace stp
