// The looking and yielding before a sleep. Spinning is a bet that the answer comes soon. It is lost when a look and a yield
// take long (others need the processor: who yields goes to the end of their queue, who sleeps is put first when its answer
// comes), or when the whole spin brings nothing (the device is slow, or the spinning itself keeps the device's kernel thread
// waiting: on a crowded machine each request then takes the whole spin). After a lost bet there is none for a while.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>

#include "stp/system.h"

namespace stp {

class Spin {
 public:
  // Calls look() until it says true (the result), `deadline` passes (CLOCK_BOOTTIME), or `longest` nanoseconds have. One thread at a time.
  template <class Look>
  bool run(Nanos deadline, Nanos longest, Look look) {
    Nanos now = boottime_now();
    if (longest <= 0 || now >= deadline || now < not_before_.load(std::memory_order_relaxed)) return false;
    const Nanos end = std::min(deadline, now + std::min(longest, kSecond));
    while (now < end) {
      if (look()) return true;
      ::sched_yield();
      if (look()) return true;
      const Nanos before = now;
      now = boottime_now();
      if (now - before > kCrowded) break;
    }
    if (now < deadline) not_before_.store(now + kRest, std::memory_order_relaxed);
    return false;
  }

 private:
  static constexpr Nanos kCrowded = 50 * kMicrosecond;
  static constexpr Nanos kRest = 5 * kMillisecond;
  std::atomic<Nanos> not_before_{0};
};

}  // namespace stp
