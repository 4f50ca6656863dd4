// The world: one queue of events in virtual true time, the trace of all that happened, and the first failed check.
// Nothing in a simulation runs but from here; no thread, no real clock.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/sim_random.h"
#include "stp/timing.h"

namespace stp::sim {

class SimWorld {
 public:
  using Action = std::function<void()>;

  SimWorld(std::uint64_t seed, bool verbose) : random_(seed), verbose_(verbose) {}
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  Nanos now() const { return now_; }
  // Events of one moment run in the order in which they were asked for.
  void at(Nanos time, Action action);
  void after(Nanos delay, Action action) { at(now_ + delay, std::move(action)); }
  // Runs everything up to `time`, until nothing is left, or until a check failed.
  void run_until(Nanos time);
  // Drops all events (they may hold on to what is about to go).
  void clear() { queue_.clear(); }

  SimRandom& random() { return random_; }

  // The trace: every event and every I/O goes in. Equal seeds give equal hashes.
  void trace(std::uint64_t a, std::uint64_t b = 0) { trace_ = mix64(trace_ ^ mix64(a ^ mix64(b))); }
  std::uint64_t trace_hash() const { return trace_; }
  std::uint64_t events() const { return sequence_; }

  bool verbose() const { return verbose_; }
  // A line for people, when verbose.
  void say(const std::string& line) const;

  // Only the first failure counts: what follows may be its consequence.
  void fail(std::string_view check, std::string_view what);
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }

 private:
  struct Event {
    Nanos time;
    std::uint64_t sequence;
    Action action;
  };
  static bool later(const Event& a, const Event& b) { return a.time != b.time ? a.time > b.time : a.sequence > b.sequence; }

  Nanos now_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t trace_ = 0;
  std::vector<Event> queue_;  // a heap
  SimRandom random_;
  bool verbose_;
  std::string failure_;
};

}  // namespace stp::sim
