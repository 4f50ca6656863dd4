// Who is there, seen from outside: reads the lease array a few times without joining. For the tools; hosts have Membership.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "stp/lease.h"
#include "stp/block_source.h"
#include "stp/timing.h"

namespace stp {

// The clock by which leases are watched (CLOCK_BOOTTIME), and how to let time pass. Tests move it by hand.
struct WatchClock {
  std::function<Nanos()> now;
  std::function<void(Nanos)> sleep;
  static WatchClock real();
};

enum class HostState : std::uint8_t {
  kFree,        // nobody's slot
  kLeft,        // FREE, kept for a host that left
  kJoining,     // a claim that is being waited out
  kAlive,       // its beat changed while watched, or its slot lock is held on this kernel
  kSilent,      // its beat did not change, but not for long enough to call it dead
  kDead,        // its slot lock is free on this kernel, or a living host has called it dead
  kUnreadable,  // the lease did not check
};
std::string_view to_string(HostState state);

struct HostReport {
  Slot slot = kNoSlot;
  HostState state = HostState::kFree;
  BlockFault fault = BlockFault::kNone;
  Lease lease;                      // as read last; empty when unreadable
  bool beat_seen = false;           // it changed while it was watched, beat_age says when last
  Nanos beat_age = 0;               // since the last change, or since the watch began
  std::vector<Slot> sees;           // living hosts that it calls alive
  std::vector<Slot> does_not_see;   // living hosts that it does not
  std::vector<Slot> refuses;        // incarnations now in the leases that it called dead for good

  bool held() const { return state != HostState::kFree && state != HostState::kLeft; }
  // "alpha", or "slot 3" when no name is known.
  std::string title() const;
};

// Reads the whole array once. A lease that does not check is read again a few times: it may be in the middle of being written.
Result<std::vector<DecodedLease>> read_leases(BlockSource& storage, const WatchClock& clock);

// Watches the leases until everyone is judged, for at most two beats and the time of one. One report a slot. Not watching at
// all gives kSilent for those whom the locks of this kernel do not tell.
Result<std::vector<HostReport>> observe_hosts(BlockSource& storage, const WatchClock& clock, bool watch = true);

// The same for somebody who looks again and again: what was seen before counts, so that only the first look waits, and one after a
// pause in which a host might have died unseen. One thread at a time.
class HostWatch {
 public:
  explicit HostWatch(WatchClock clock = WatchClock::real()) : clock_(std::move(clock)) {}
  Result<std::vector<HostReport>> look(BlockSource& storage);

 private:
  WatchClock clock_;
  std::vector<HostReport> reports_;  // nobody's sight judged yet
  Nanos last_ = 0;
};

}  // namespace stp
