// Randomness that a seed repeats, and what is drawn from it: for the simulation, and for the faults that STP_FAULTS asks for.
#pragma once

#include <cstdint>

#include "stp/random.h"

namespace stp {

inline std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Dice final : public Random {
 public:
  explicit Dice(std::uint64_t seed) : state_(mix64(seed)) {}

  std::uint64_t next() override {
    state_ += 0x9e3779b97f4a7c15;
    return mix64(state_);
  }
  // Each part of a program gets a generator of its own, so that a new question in one does not shift the answers in all others.
  Dice split() { return Dice(next()); }
  // Uniform in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // True once in 1/probability times.
  bool chance(double probability) { return unit() < probability; }
  // Uniform, both ends included.
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return high <= low ? low : low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  // As likely between 1 and 2 as between 1024 and 2048: for sizes and delays of which small and large both matter.
  std::int64_t log_between(std::int64_t low, std::int64_t high) {
    if (high <= low) return low;
    std::int64_t bound = low < 1 ? 1 : low;
    int doublings = 0;
    for (std::int64_t v = bound; v < high && doublings < 62; v *= 2) ++doublings;
    const std::int64_t top = bound << below(static_cast<std::uint64_t>(doublings) + 1);
    return between(low, top < high ? top : high);
  }

 private:
  std::uint64_t state_;
};

}  // namespace stp
