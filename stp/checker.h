// Checks everything on a storage that can be checked, and writes nothing: superblock and copy, leases, gates, SCB tables, port
// files, rings. (Extents carry no header: their receivers verify them.)
//
// Fine are: blocks never written; blocks of an earlier incarnation of their slot (stale); blocks that a living host is just
// writing (read again a few times before they count). A warning is what a crash leaves behind, and is overwritten or ignored when
// the host comes back: torn blocks, tables that do not agree. Everything else is a fault.
#pragma once

#include <functional>
#include <string>

#include "stp/lease_watch.h"

namespace stp {

struct Finding {
  enum class Severity : std::uint8_t { kWarning, kFault };
  Severity severity = Severity::kFault;
  std::uint64_t block = 0;
  std::string region;     // "superblock", "lease", "gate", "socket table", "port file", "ring"
  Slot slot = kNoSlot;    // whose block it is
  std::string host;       // its name, or "slot 3"; empty for a superblock
  std::string what;
  std::string advice;
};
std::string_view to_string(Finding::Severity severity);

struct CheckRequest {
  // What is described alone, in slots that somebody holds: no rings, nothing that an earlier host left in a slot that is free now.
  bool descriptions_only = false;
  WatchClock clock = WatchClock::real();
  std::function<void(const Finding&)> report;
  std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
};

struct CheckSummary {
  std::uint64_t blocks = 0;  // looked at
  std::uint64_t empty = 0;   // of them never written
  std::uint64_t stale = 0;   // of an earlier incarnation
  std::uint64_t warnings = 0;
  std::uint64_t faults = 0;
};

// Fails only when the storage can not be read.
Result<CheckSummary> check_storage(BlockSource& storage, const CheckRequest& request);

}  // namespace stp
