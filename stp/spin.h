// The looking and yielding before a sleep. Spinning is a bet that the answer comes soon. It is lost when a look and a yield
// take long (others need the processor: who yields goes to the end of their queue, who sleeps is put first when its answer
// comes), or when the whole spin brings nothing (the device is slow, or the spinning itself keeps the device's kernel thread
// waiting: on a crowded machine each request then takes the whole spin). After a lost bet there is none for a while, longer
// with each one lost in a row: a single slow request costs little. A wait shorter than falling asleep and waking up is no bet.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "stp/system.h"

namespace stp {

class Spin {
 public:
  // Calls look() until it says true (the result), `deadline` passes (CLOCK_BOOTTIME), or `longest` nanoseconds have. What several threads
  // learn at a time may mix.
  template <class Look>
  bool run(Nanos deadline, Nanos longest, Look look) {
    Nanos now = boottime_now();
    const bool brief = deadline - now <= kBrief;
    if (now >= deadline || (!brief && (longest <= 0 || now < not_before_.load(std::memory_order_relaxed)))) return false;
    const Nanos end = brief ? deadline : std::min(deadline, now + std::min(longest, kSecond));
    while (now < end) {
      if (look()) return won(brief);
      ::sched_yield();
      if (look()) return won(brief);
      const Nanos before = now;
      now = boottime_now();
      if (now - before > kCrowded) break;
    }
    if (!brief && now < deadline) {
      const Nanos rest = rest_.load(std::memory_order_relaxed);
      not_before_.store(now + rest, std::memory_order_relaxed);
      rest_.store(std::min(2 * rest, kLongestRest), std::memory_order_relaxed);
    }
    return false;
  }

 private:
  static constexpr Nanos kBrief = 15 * kMicrosecond;
  static constexpr Nanos kCrowded = 50 * kMicrosecond;
  static constexpr Nanos kFirstRest = 250 * kMicrosecond;
  static constexpr Nanos kLongestRest = 8 * kMillisecond;
  bool won(bool brief) {
    if (!brief) rest_.store(kFirstRest, std::memory_order_relaxed);
    return true;
  }
  std::atomic<Nanos> rest_{kFirstRest};
  std::atomic<Nanos> not_before_{0};
};

// A thread that is about to spin: true for at most `most` of those that count themselves in `count`.
class SpinningThread {
 public:
  SpinningThread(std::atomic<int>& count, int most) : count_(count), may_(count.fetch_add(1, std::memory_order_relaxed) < most) {}
  ~SpinningThread() { leave(); }
  SpinningThread(const SpinningThread&) = delete;
  SpinningThread& operator=(const SpinningThread&) = delete;
  explicit operator bool() const { return may_; }
  void leave() {
    if (!std::exchange(left_, true)) count_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  std::atomic<int>& count_;
  const bool may_;
  bool left_ = false;
};

}  // namespace stp
