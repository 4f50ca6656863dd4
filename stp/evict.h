// Frees the slot of a host that is dead, never of one that is alive.
//
// Alive is: the slot lock is held on this kernel, or the lease changes within T_dead of watching (by CLOCK_BOOTTIME, counting only
// while reads succeed). On the host's own kernel a free lock settles it at once, and a slot that is FREE and only kept for a name needs no watching.
// The freed lease carries a higher incarnation, chosen with randomness: should the host be alive after all (paused, cut off),
// it finds that when it next looks at its lease, and stops.
#pragma once

#include <functional>
#include <string>

#include "stp/lease_watch.h"
#include "stp/storage.h"
#include "stp/random.h"

namespace stp {

struct EvictRequest {
  std::string host;  // instance name, or "slot:N"
  WatchClock clock = WatchClock::real();
  std::function<void(Nanos watched, Nanos needed)> progress;
};

struct Evicted {
  Slot slot = kNoSlot;
  std::string name;  // that it had; empty when its lease could not be read
  std::uint64_t old_incarnation = 0;
  std::uint64_t incarnation = 0;
};

// Errors: ENOENT (no such host, or the slot is free already), EBUSY (alive), EEXIST (two slots of that name), EINVAL, EIO.
Result<Evicted> evict_host(Storage& storage, Random& random, const EvictRequest& request);

}  // namespace stp
