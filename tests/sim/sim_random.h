// Seeded randomness for everything in the simulation. Each part has its own generator, split from the seed, so that
// a new question in one part does not shift the answers in all others.
#pragma once

#include <cstdint>

#include "stp/random.h"
#include "stp/timing.h"

namespace stp::sim {

inline std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class SimRandom final : public Random {
 public:
  explicit SimRandom(std::uint64_t seed) : state_(mix64(seed)) {}

  std::uint64_t next() override {
    state_ += 0x9e3779b97f4a7c15;
    return mix64(state_);
  }
  SimRandom split() { return SimRandom(next()); }
  // True once in 1/probability times.
  bool chance(double probability) { return static_cast<double>(next() >> 11) * 0x1p-53 < probability; }
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

}  // namespace stp::sim
