// The clock of one machine: it has an origin and a rate of its own, and it stops while the machine is frozen (a paused
// virtual machine, whose CLOCK_BOOTTIME stands still). Nobody but the world sees true time.
#pragma once

#include "stp/timing.h"

namespace stp::sim {

class SimClock {
 public:
  // rate: how many of its nanoseconds pass in a million true ones.
  SimClock(Nanos origin, std::int64_t rate) : local_(origin), rate_(rate) {}

  Nanos local(Nanos now) const { return stopped_ ? local_ : local_ + scale(now - true_, rate_, kMillion); }
  // The earliest true time at which the clock shows `local`; kNever while it is stopped.
  Nanos when(Nanos local) const {
    if (stopped_ || local == kNever) return kNever;
    if (local <= local_) return true_;
    return true_ + scale(local - local_, kMillion, rate_) + 1;
  }
  void set_rate(Nanos now, std::int64_t rate) {
    settle(now);
    rate_ = rate;
  }
  void stop(Nanos now) {
    settle(now);
    stopped_ = true;
  }
  void go_on(Nanos now) {
    if (!stopped_) return;
    true_ = now;
    stopped_ = false;
  }
  bool stopped() const { return stopped_; }

 private:
  static constexpr std::int64_t kMillion = 1'000'000;
  static Nanos scale(Nanos d, std::int64_t by, std::int64_t over) { return d / over * by + d % over * by / over; }
  void settle(Nanos now) {
    local_ = local(now);
    true_ = now;
  }
  Nanos local_;
  Nanos true_ = 0;
  std::int64_t rate_;
  bool stopped_ = false;
};

}  // namespace stp::sim
