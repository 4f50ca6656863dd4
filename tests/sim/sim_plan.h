// What one seed does: how many hosts on which machines, which faults, how often, for how long.
//
// Time runs in four stretches: join (nothing fails but what always may), active (work and faults), quiet (no new work, no new
// faults, only slow disks and drifting clocks: all that is open must end), probe (everybody talks to everybody), leave.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stp/superblock.h"
#include "tests/sim/sim_storage.h"

namespace stp::sim {

// What may befall a seed. Polite: what the timings promise to survive, so nobody may be convicted wrongly and no stream
// may fail without a reason that its own ends know. Harsh: beyond that, only safety and recovery are asked for.
enum class Trouble : std::uint8_t {
  // polite
  kProcessCrash,
  kMachineCrash,
  kLeave,          // and come back
  kStall,          // of everybody, within F
  kUndo,           // within Q
  kImpostor,       // a second host of one name
  // harsh
  kFreeze,         // a machine, with its clock
  kSuspend,        // a process, its clock runs on
  kHostStall,      // of one machine, longer than the verdict takes
  kLongStall,      // of everybody, longer than leases last
  kLateWrites,     // of dead machines, and undone writes, long after Q
  kIoErrors,
  kFlips,
  kTorn,           // writes that complete well and land in part, or not at all
  kMisdirected,
  kOtherView,      // a machine sees an old copy, or another disk
  kClone,          // somebody else beats with a host's identity
  kHostile,        // a member that writes nonsense with good checksums
};
inline constexpr std::size_t kTroubles = 18;
std::string_view to_string(Trouble trouble);

struct Plan {
  std::uint64_t seed = 0;
  Superblock superblock;
  StorageFaults calm;     // what always may be
  StorageFaults faults;   // during the active stretch
  std::uint32_t troubles = 0;  // bits
  std::vector<std::uint32_t> machine_of;  // by host
  std::uint32_t machines = 0;
  Nanos join = 0, active = 0, quiet = 0, probe = 0, leave = 0;
  Nanos trouble_every = 0;  // on average
  Nanos connect_every = 0;  // a host, on average
  Nanos poll_max = 0;
  std::uint32_t window_bytes = 0, send_buffer_bytes = 0, inline_max_bytes = 0;
  std::uint64_t receive_budget_bytes = 0;
  std::int64_t largest_stream = 0;
  bool ends_early = false;    // programs have ended now and then before what they sent has gone, as those of agents do
  bool waits_in_line = false; // programs send nothing more while what they sent waits for a packet, as agents do behind a long line
  bool scripted = false;      // programs do only what they are told, each with streams of largest_stream bytes both ways
  bool holds_open = false;    // scripted streams stay open when all is sent, until their program is told to finish
  bool members_only = false;  // no engines and no streams: many more seeds for the leases alone

  bool has(Trouble trouble) const { return (troubles >> static_cast<unsigned>(trouble) & 1) != 0; }
  std::uint32_t hosts() const { return static_cast<std::uint32_t>(machine_of.size()); }
  // Harsh faults that can not be laid at one host's door.
  bool anybody_may_suffer() const;
  std::string text() const;
};

struct PlanOptions {
  std::uint32_t hosts = 0;  // 0 = as the seed says
  bool members_only = false;
};
Plan make_plan(std::uint64_t seed, const PlanOptions& options);
// Two hosts on two machines, nothing fails and nobody does anything by himself.
Plan make_scripted_plan(std::uint64_t seed);

}  // namespace stp::sim
