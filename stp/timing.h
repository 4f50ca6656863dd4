// The clocks of the group: how often hosts beat, when they fence themselves, when others call them dead.
//
// All times in milliseconds; rho in thousandths (clock-rate error). The inequalities, checked by
// check_timing() and by everyone who reads a superblock:
//
//   T_fence >= B + W + F                          a host survives a storage stall of F
//   T_dead  >= (1+rho)(T_fence/(1-rho) + G + Q)   nobody is called dead while it may still write
//   P + R   <= T_dead / 8                         an observer looks often enough
//   T_join  >= (1+rho)(X/(1-rho) + Q)             a claim is read back after every rival's write has landed
//
// Lease age runs from the submit of the last beat that completed. Safety does not hang on these
// (identities are matched exactly everywhere); they decide when waiting ends.
#pragma once

#include <cstdint>
#include <string_view>

#include "stp/error.h"

namespace stp {

using Nanos = std::int64_t;  // CLOCK_BOOTTIME, or the simulator's
inline constexpr Nanos kMicrosecond = 1000;
inline constexpr Nanos kMillisecond = 1000 * kMicrosecond;
inline constexpr Nanos kSecond = 1000 * kMillisecond;

inline double in_seconds(Nanos t) { return static_cast<double>(t) / kSecond; }
inline constexpr Nanos kNever = INT64_MAX;

struct Timing {
  std::uint32_t beat_ms = 0;         // B
  std::uint32_t beat_io_ms = 0;      // W, one beat's read and write
  std::uint32_t stall_ms = 0;        // F
  std::uint32_t check_ms = 0;        // G, from the check of the lease to the submit
  std::uint32_t late_ms = 0;         // Q, how late a submitted write may land
  std::uint32_t claim_ms = 0;        // X, from the read of a free slot to the landing of the claim
  std::uint32_t observe_ms = 0;      // P
  std::uint32_t observe_io_ms = 0;   // R
  std::uint32_t fence_ms = 0;        // T_fence
  std::uint32_t dead_ms = 0;         // T_dead
  std::uint32_t join_ms = 0;         // T_join
  std::uint32_t rho_thousandths = 0;

  // The longest time from a host's last beat to everybody's verdict, milliseconds.
  std::uint32_t detection_ms() const;
  bool operator==(const Timing&) const = default;
};

Result<Timing> timing_profile(std::string_view name);  // local, san, fast
Result<void> check_timing(const Timing& timing);

}  // namespace stp
