// Both sides do the same sequence of calls, and have to give the same at each call and stand the same between them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/differential/exceptions.h"
#include "tests/differential/world.h"

namespace stp::differential {

struct Step {
  Call call;
  bool skipped = false;
  Outcome ours, theirs;
};

struct Difference {
  std::size_t at = 0;            // which call
  std::vector<Step> steps;       // as far as it came
  std::optional<int> slot;       // that stands otherwise after it; else it is the call's outcome
  State ours, theirs;
};

class Comparison {
 public:
  // How long both may take to stand the same after a call: data is on its way for a moment.
  Comparison(Way way, int patience_ms) : way_(way), patience_ms_(patience_ms) {}

  std::optional<Difference> run(const std::vector<Call>& calls, unsigned number);
  std::uint64_t calls_done() const { return calls_done_; }
  std::uint64_t calls_skipped() const { return calls_skipped_; }
  const Uses& uses() const { return uses_; }

 private:
  Way way_;
  int patience_ms_;
  std::uint64_t calls_done_ = 0, calls_skipped_ = 0;
  Uses uses_{};
};

std::string to_string(const Difference& difference);

}  // namespace stp::differential
