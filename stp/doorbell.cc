#include "stp/doorbell.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

namespace stp {
namespace {

long futex(std::atomic<std::uint32_t>* word, int op, std::uint32_t value, const timespec* timeout) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(word), op, value, timeout, nullptr, 0);
}

}  // namespace

void Doorbell::ring() {
  if (state_.exchange(kRung) == kAsleep) futex(&state_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr);
}

void Doorbell::tell_sleeper() {
  if (state_.load() == kAsleep) ring();
}

void Doorbell::sleep(Nanos deadline) {
  const Nanos left = std::min(deadline - boottime_now(), kLongestSleep);
  if (left <= 0) return;
  const timespec timeout{.tv_sec = left / kSecond, .tv_nsec = left % kSecond};
  futex(&state_, FUTEX_WAIT_PRIVATE, kAsleep, &timeout);
}

}  // namespace stp
