// Things to do at a time. Part of the engine; runs inside its step().
#pragma once

#include <functional>
#include <map>

#include "stp/timing.h"

namespace stp {

class Timers {
 public:
  void at(Nanos when, std::function<void()> what) { due_.emplace(when, std::move(what)); }
  Nanos next_deadline() const { return due_.empty() ? kNever : due_.begin()->first; }
  void run(Nanos now) {
    while (!due_.empty() && due_.begin()->first <= now) {
      const auto what = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      what();
    }
  }

 private:
  std::multimap<Nanos, std::function<void()>> due_;
};

}  // namespace stp
