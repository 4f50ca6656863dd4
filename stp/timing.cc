#include "stp/timing.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>

namespace stp {

std::uint32_t Timing::detection_ms() const {
  const double rho = rho_thousandths / 1000.0;
  const double look = observe_ms + observe_io_ms;
  return static_cast<std::uint32_t>(std::ceil((dead_ms + look) / (1 - rho) + look));
}

Result<Timing> timing_profile(std::string_view name) {
  Timing t;
  if (name == "local") {
    t = {.beat_ms = 500, .beat_io_ms = 500, .stall_ms = 5000, .check_ms = 100, .late_ms = 3000, .claim_ms = 500, .observe_ms = 500,
         .observe_io_ms = 750, .fence_ms = 6000, .dead_ms = 10000, .join_ms = 4000, .rho_thousandths = 20};
  } else if (name == "san") {
    t = {.beat_ms = 2000, .beat_io_ms = 8000, .stall_ms = 35000, .check_ms = 1000, .late_ms = 33000, .claim_ms = 3000, .observe_ms = 2000,
         .observe_io_ms = 4400, .fence_ms = 45000, .dead_ms = 90000, .join_ms = 40000, .rho_thousandths = 50};
  } else if (name == "fast") {
    t = {.beat_ms = 100, .beat_io_ms = 100, .stall_ms = 300, .check_ms = 20, .late_ms = 300, .claim_ms = 200, .observe_ms = 50,
         .observe_io_ms = 75, .fence_ms = 500, .dead_ms = 1000, .join_ms = 600, .rho_thousandths = 20};
  } else {
    return fail(EINVAL, fmt::format("unknown timing profile \"{}\": use local, san or fast", name));
  }
  return t;
}

Result<void> check_timing(const Timing& t) {
  if (t.beat_ms == 0 || t.observe_ms == 0 || t.dead_ms == 0 || t.rho_thousandths >= 500)
    return fail(EINVAL, "timings: a period is zero, or the clock error is half or more");
  if (t.dead_ms > 3'600'000 || t.join_ms > 3'600'000) return fail(EINVAL, "timings: longer than an hour");
  const double rho = t.rho_thousandths / 1000.0;
  if (t.fence_ms < static_cast<std::uint64_t>(t.beat_ms) + t.beat_io_ms + t.stall_ms)
    return fail(EINVAL, "timings: T_fence is shorter than B + W + F");
  if (t.dead_ms < (1 + rho) * (t.fence_ms / (1 - rho) + t.check_ms + t.late_ms))
    return fail(EINVAL, "timings: T_dead is shorter than (1+rho)(T_fence/(1-rho) + G + Q)");
  if (8.0 * (static_cast<double>(t.observe_ms) + t.observe_io_ms) > t.dead_ms)
    return fail(EINVAL, "timings: P + R is longer than T_dead / 8");
  if (t.join_ms < (1 + rho) * (t.claim_ms / (1 - rho) + t.late_ms))
    return fail(EINVAL, "timings: T_join is shorter than (1+rho)(X/(1-rho) + Q)");
  return {};
}

}  // namespace stp
