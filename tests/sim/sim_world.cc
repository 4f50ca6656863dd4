#include "tests/sim/sim_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace stp::sim {

void SimWorld::at(Nanos time, Action action) {
  queue_.push_back({.time = std::max(time, now_), .sequence = ++sequence_, .action = std::move(action)});
  std::ranges::push_heap(queue_, later);
}

void SimWorld::run_until(Nanos time) {
  while (!queue_.empty() && queue_.front().time <= time && !failed()) {
    std::ranges::pop_heap(queue_, later);
    Event event = std::move(queue_.back());
    queue_.pop_back();
    now_ = event.time;
    trace(static_cast<std::uint64_t>(event.time), event.sequence);
    event.action();
  }
  if (!failed()) now_ = std::max(now_, time);
}

void SimWorld::say(const std::string& line) const {
  if (verbose_) fmt::print(stderr, "{:12.6f} {}\n", static_cast<double>(now_) / 1e9, line);
}

void SimWorld::fail(std::string_view check, std::string_view what) {
  if (failed()) return;
  failure_ = fmt::format("{} (at {:.6f} s): {}", check, static_cast<double>(now_) / 1e9, what);
  say("FAILED " + failure_);
}

}  // namespace stp::sim
