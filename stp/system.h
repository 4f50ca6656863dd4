// The machine as the transport meets it: its clock, its randomness, its boot. What the simulator replaces.
#pragma once

#include <array>
#include <cstdint>

#include "stp/identity.h"
#include "stp/random.h"
#include "stp/timing.h"

namespace stp {

// CLOCK_BOOTTIME: monotonic, and goes on while the machine is suspended. Any thread.
Nanos boottime_now();

// Milliseconds since 1970. For display only: clocks of two hosts are never compared.
std::uint64_t wall_clock_ms();

// Identity of this boot of this kernel (/proc/sys/kernel/random/boot_id). Where that can not be read the answer is
// random, the same for the whole process: it equals nobody's, so nobody takes this kernel for another.
const Uuid& boot_id();

// getrandom(2), a few hundred bytes at a time. One thread at a time, like every Random.
class SystemRandom final : public Random {
 public:
  std::uint64_t next() override;

 private:
  std::array<std::uint64_t, 32> buffer_{};
  std::size_t at_ = buffer_.size();
};

}  // namespace stp
