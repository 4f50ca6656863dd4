// Membership: gets this host a slot, keeps its lease, watches the leases of the others, and judges them.
//
// Deterministic; does no I/O but through its Medium, has no clock but `now`. One thread calls step().
//
// Invariants:
//  - a slot is claimed only when FREE and kept for nobody else, or kept for my own name; the claim is read back after
//    T_join (T_dead when the slot last belonged to another kernel) and anything but my own claim there means: retire, try again;
//  - before each beat the own block is read: an older beat of mine, FREE or CLAIM of no higher incarnation is a late
//    write and is overwritten; a higher incarnation, an equal one with another nonce, or a beat that I never
//    wrote (clone, rollback) stops this host for good;
//  - silence of a peer counts only over stretches that my own successful reads covered;
//  - a verdict (dead) is final for that incarnation, and is published in my lease until the slot has a higher one.
#pragma once

#include <memory>
#include <string>

#include "stp/medium.h"
#include "stp/membership_board.h"
#include "stp/random.h"
#include "stp/slot_locks.h"
#include "stp/superblock.h"

namespace stp {

struct MembershipConfig {
  Superblock superblock;
  std::string host;             // base name
  StorageIdentity identity;     // of this process
  std::uint32_t pid = 0;        // display only
};

class Membership {
 public:
  Membership(const MembershipConfig& config, Medium& medium, SlotLocks& locks, Random& random, MembershipBoard& board);
  ~Membership();
  // Takes completions, acts, submits and flushes. Returns when to be called again at the latest
  // (kNever after kLeft or kStopped with nothing in flight).
  Nanos step(Nanos now);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stp
