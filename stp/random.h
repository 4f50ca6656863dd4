// Randomness, handed in: getrandom in real life, seeded in the simulator.
#pragma once

#include <cstdint>

namespace stp {

class Random {
 public:
  virtual ~Random() = default;
  virtual std::uint64_t next() = 0;
  // Uniform in [0, bound); bound > 0. (The bias of the remainder is of no account here.)
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
};

}  // namespace stp
