// Chooses the slot to join in: the one that carries my name, else the lowest that is free and kept for nobody, else one with a claim that nobody
// will come back for.
//
// For the instance names NAME, NAME~2, NAME~3, ... in order: who has it decides whether it is taken at once (its last holder
// was of this kernel, and its lock says that it is gone), claimed after a silence of T_dead, left to another program of
// this host (then the next name is looked at), or refused, because another machine lives under it. A lock that is held says little
// before its holder was seen to beat: the kernel keeps that of a killed program until the last of its I/O has ended. Does no I/O; locks only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "stp/lease_io.h"
#include "stp/membership.h"
#include "stp/own_lease.h"
#include "stp/peer_watch.h"

namespace stp {

struct SlotChoice {
  enum class What : std::uint8_t {
    kWait,   // look again; `why` says what for
    kTake,   // write OWNED at once: the last holder is gone, and all its writes have landed
    kClaim,  // write CLAIM, wait `wait`, read back
    kStop,   // refused, `why` and `error_code` say it
  };
  What what = What::kWait;
  Slot slot = kNoSlot;
  std::string name;
  Nanos wait = 0;
  std::string why;
  int error_code = 0;
  bool soon = false;  // kWait: it may end within milliseconds
};

// The lock of the slot that I am in, or want. At most one is held.
class HeldLock {
 public:
  explicit HeldLock(SlotLocks& locks) : locks_(locks) {}
  Slot slot() const { return slot_; }
  bool usable() const { return locks_.usable(); }
  // True: held now (or before); another slot's lock is released first. False changes nothing but that.
  bool take(Slot slot);
  void release();

 private:
  SlotLocks& locks_;
  Slot slot_ = kNoSlot;
};

class SlotChooser {
 public:
  SlotChooser(const MembershipConfig& config, HeldLock& lock);

  // What all sweeps since the process began have shown.
  void observe(const LeaseSweep& sweep);
  // `sweep` is the latest one observed; `previous` my life before this one, or null. The lock of a slot that is to be taken or
  // claimed is held afterwards, where locks are usable.
  SlotChoice choose(const LeaseSweep& sweep, const OwnLease* previous);
  // My own claim that I gave up, and that was still mine when I last read it: that slot is as good as free.
  void abandon_claim(const Lease& claim) { abandoned_ = claim; }
  // Whether `name` is held or claimed in a slot other than `mine`, by somebody who goes before a claim of mine.
  bool name_lost(const LeaseSweep& sweep, const std::string& name, Slot mine) const;
  std::uint64_t highest_incarnation(Slot slot) const { return slots_[slot].highest; }

 private:
  // A dead host's beats may land for a while yet (Q). Whoever is seen to beat twice after that lives.
  static constexpr int kBeatsOfTheLiving = 2;
  // One beat of a program that was killed may still land.
  static constexpr int kBeatsOfTheRunning = 2;
  // Who holds the lock and has not beaten for so many beats is alive, but hangs, or waits out his claim.
  static constexpr int kBeatsOfTheEnding = 3;
  enum class Standing : std::uint8_t { kTakeable, kClaimable, kBusy, kEnding, kWatched, kRefused };
  struct Watched {
    Identity owner;
    LeaseState state = LeaseState::kFree;
    std::uint64_t beat = 0;
    int changes = 0;  // of the beat, since what landed late cannot be the cause
    int beats = 0;    // changes of the beat, late or not
    Nanos read = 0;   // submit of the last read that was sound
    CoveredTime covered;
    Nanos silent = 0;
    Nanos unreadable = 0;       // covered time for which the block did not check
    std::uint64_t highest = 0;  // incarnation, claims included
  };

  void observe_slot(Watched& w, const LeaseReading& reading, bool any_read, Nanos submitted);
  std::optional<SlotChoice> choose_previous(const LeaseSweep& sweep, const OwnLease& previous);
  // Nothing: that name is another program's of this host.
  std::optional<SlotChoice> choose_named(const LeaseSweep& sweep, const std::string& name, bool& exists);
  SlotChoice choose_free(const LeaseSweep& sweep, const std::string& name);
  SlotChoice choose_leftover(const LeaseSweep& sweep, const std::string& name);
  bool is_leftover(const LeaseSweep& sweep, Slot slot) const;
  Standing judge(Slot slot, const Lease& lease);
  SlotChoice refuse(Slot slot, const Lease& lease) const;
  SlotChoice full(const LeaseSweep& sweep, const std::string& name) const;
  // How long a lease must have been silent before its slot may be claimed. A claim is silent by nature while it waits.
  Nanos silence_limit(LeaseState state) const { return state == LeaseState::kClaim ? 2 * dead_ : dead_; }
  bool free_for_all(const LeaseReading& reading) const;
  bool exhausted(Slot slot) const;

  const MembershipConfig& config_;
  HeldLock& lock_;
  Nanos dead_, join_, fence_, late_, beat_;
  Nanos watching_since_ = kNever;  // submit of the first sweep
  std::vector<Watched> slots_;
  std::optional<Lease> abandoned_;
};

std::string lease_name_list(const LeaseSweep& sweep);

}  // namespace stp
