#include "tests/sim/sim_plan.h"

#include <fmt/format.h>

#include <array>

namespace stp::sim {
namespace {

constexpr std::array<std::string_view, kTroubles> kNames{
    "process-crash", "machine-crash", "leave", "stall", "undo", "impostor", "freeze", "suspend", "host-stall",
    "long-stall", "late-writes", "io-errors", "flips", "torn", "misdirected", "other-view", "clone", "hostile"};
constexpr std::uint32_t kFirstHarsh = static_cast<std::uint32_t>(Trouble::kFreeze);

// Clocks may differ from the truth by a tenth. Every write that is not lost lands within Q, stalls included.
Timing sim_timing() {
  return {.beat_ms = 500, .beat_io_ms = 300, .stall_ms = 1200, .check_ms = 100, .late_ms = 1500, .claim_ms = 1700, .observe_ms = 200,
          .observe_io_ms = 200, .fence_ms = 2000, .dead_ms = 4500, .join_ms = 3800, .rho_thousandths = 100};
}

Superblock make_superblock(SimRandom& random, std::uint32_t hosts) {
  Superblock s;
  for (std::byte& b : s.uuid) b = static_cast<std::byte>(random.next());
  s.stg = "sim";
  s.timing = sim_timing();
  Geometry g;
  g.block_size = 4096;
  g.hosts = hosts + static_cast<std::uint32_t>(random.below(3));
  g.sockets = 64;
  g.ring_blocks = 16;
  g.extents = 16;
  g.total_blocks = bytes_needed(g) / g.block_size;
  s.geometry = derive_geometry(g).value_or(Geometry{});
  return s;
}

std::uint32_t choose_troubles(SimRandom& random) {
  std::uint32_t set = 0;
  const std::uint64_t kind = random.below(10);
  if (kind < 2) return 0;
  const double polite = kind < 5 ? 0.6 : 0.35;
  for (std::uint32_t t = 0; t < kFirstHarsh; ++t)
    if (random.chance(t + 1 == kFirstHarsh ? polite / 4 : polite)) set |= 1u << t;
  if (kind < 5) return set;
  // One or two harsh ones: enough to meet each other, few enough to keep the checks sharp.
  for (std::uint64_t n = 1 + random.below(2); n > 0; --n) set |= 1u << (kFirstHarsh + random.below(kTroubles - kFirstHarsh));
  return set;
}

void choose_faults(Plan& plan, SimRandom& random) {
  const Nanos late = static_cast<Nanos>(plan.superblock.timing.late_ms) * kMillisecond;
  StorageFaults& calm = plan.calm;
  calm.fastest = 20 * kMicrosecond;
  calm.slowest = random.log_between(kMillisecond, 16 * kMillisecond);
  calm.requests.delay = {.shortest = 30 * kMillisecond, .longest = 120 * kMillisecond, .chance = random.chance(0.6) ? 0.01 : 0};
  calm.bulk_delay_max = 600 * kMillisecond;
  calm.sector_tears = random.chance(0.6);
  calm.late_max = late - 100 * kMillisecond;
  plan.faults = calm;
  FaultPlan& f = plan.faults.requests;
  const double often = random.chance(0.5) ? 1 : 5;
  if (plan.has(Trouble::kUndo)) f.undo = {.shortest = kMillisecond, .longest = calm.late_max, .chance = 0.002 * often};
  if (plan.has(Trouble::kLateWrites)) {
    f.undo = {.shortest = kMillisecond, .longest = 40 * kSecond, .chance = 0.001 * often};
    plan.faults.late_max = 40 * kSecond;
    plan.faults.late_chance = 0.6;
    plan.faults.lost_chance = 0.2;
  }
  if (plan.has(Trouble::kIoErrors)) f.eio_read = f.eio_write = 0.001 * often;
  if (plan.has(Trouble::kFlips)) {
    f.flip = 1e-7 * often;
    f.flip_front = 0.7;
  }
  if (plan.has(Trouble::kTorn)) {
    f.torn = 0.001 * often;
    f.lost = 0.0005 * often;
  }
  if (plan.has(Trouble::kMisdirected)) f.misdirected = 0.0005 * often;
}

}  // namespace

std::string_view to_string(Trouble trouble) { return kNames[static_cast<std::size_t>(trouble)]; }

bool Plan::anybody_may_suffer() const {
  return has(Trouble::kLateWrites) || has(Trouble::kIoErrors) || has(Trouble::kFlips) || has(Trouble::kTorn) ||
         has(Trouble::kMisdirected) || has(Trouble::kOtherView) || has(Trouble::kHostile);
}

std::string Plan::text() const {
  std::string out = fmt::format("{} hosts on {} machines, {} slots, disk {} to {} us{}, active {} s, poll {} us, window {}, send {}, inline {}",
                                hosts(), machines, superblock.geometry.hosts, calm.fastest / kMicrosecond, calm.slowest / kMicrosecond,
                                calm.sector_tears ? ", tearing" : "", active / kSecond, poll_max / kMicrosecond, window_bytes,
                                send_buffer_bytes, inline_max_bytes);
  for (std::size_t t = 0; t < kTroubles; ++t)
    if (has(static_cast<Trouble>(t))) out += fmt::format(", {}", kNames[t]);
  return out;
}

Plan make_plan(std::uint64_t seed, const PlanOptions& options) {
  SimRandom random(seed * 2 + 1);
  Plan plan;
  plan.seed = seed;
  plan.members_only = options.members_only;
  const std::uint32_t n = options.hosts != 0 ? options.hosts : static_cast<std::uint32_t>(random.between(2, random.chance(0.5) ? 3 : 5));
  plan.troubles = choose_troubles(random);
  plan.superblock = make_superblock(random, n + (plan.has(Trouble::kHostile) ? 1 : 0));  // a rogue keeps its slot, dead as well
  const bool shared = random.chance(0.5);
  for (std::uint32_t i = 0; i < n; ++i) {
    const bool joins_other = shared && i > 0 && random.chance(0.4);
    plan.machine_of.push_back(joins_other ? static_cast<std::uint32_t>(random.below(plan.machines)) : plan.machines);
    if (!joins_other) ++plan.machines;
  }
  choose_faults(plan, random);
  const Nanos bound = static_cast<Nanos>(plan.superblock.timing.detection_ms()) * kMillisecond;
  plan.join = 7 * kSecond;
  plan.active = random.between(6, 25) * kSecond;
  plan.quiet = 3 * bound;
  plan.probe = 2 * bound;
  plan.leave = 2 * bound;
  plan.trouble_every = random.log_between(500 * kMillisecond, 8 * kSecond);
  plan.connect_every = random.log_between(30 * kMillisecond, 2 * kSecond);
  plan.poll_max = random.log_between(10 * kMillisecond, 80 * kMillisecond);
  plan.window_bytes = static_cast<std::uint32_t>(random.log_between(16 * 1024, 1 << 20));
  plan.send_buffer_bytes = static_cast<std::uint32_t>(random.log_between(8 * 1024, 1 << 20));
  plan.receive_budget_bytes = static_cast<std::uint64_t>(random.log_between(2 << 20, 32 << 20));
  plan.inline_max_bytes = static_cast<std::uint32_t>(random.log_between(4096, 16 * 1024));
  plan.largest_stream = random.log_between(64 * 1024, 4 << 20);
  plan.waits_in_line = seed % 8 == 5;  // nothing is drawn for these: the other seeds keep their stories
  plan.ends_early = seed % 4 == 3;
  return plan;
}

Plan make_scripted_plan(std::uint64_t seed) {
  SimRandom random(seed * 2 + 1);
  Plan plan;
  plan.seed = seed;
  plan.scripted = true;
  plan.machine_of = {0, 1};
  plan.machines = 2;
  plan.superblock = make_superblock(random, 2);
  plan.calm.fastest = 50 * kMicrosecond;
  plan.calm.slowest = 2 * kMillisecond;
  plan.calm.sector_tears = true;
  plan.calm.late_max = static_cast<Nanos>(plan.superblock.timing.late_ms) * kMillisecond - 100 * kMillisecond;
  plan.faults = plan.calm;
  plan.poll_max = 60 * kMillisecond;
  plan.window_bytes = plan.send_buffer_bytes = 1 << 20;
  plan.receive_budget_bytes = 16 << 20;
  plan.inline_max_bytes = 16 * 1024;
  return plan;
}

}  // namespace stp::sim
