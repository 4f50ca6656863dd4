// Getting a slot: scan, then take it at once, or claim it, wait, read it back, and own it.
//
//   scan -> (take)  write OWNED -> done
//        -> (claim) write CLAIM within X of the scan's submit -> wait T_join or T_dead -> read back -> write OWNED -> done
//   anything but exactly my own claim at the read-back, or a claim that was late: retire, wait, scan again.
//
// The owner makes the sweeps (as often as ever, and at once when wants_sweep() says so) and hands on what ended.
#pragma once

#include <optional>
#include <string>

#include "stp/lease_io.h"
#include "stp/own_lease.h"
#include "stp/slot_choice.h"

namespace stp {

class SlotClaim {
 public:
  enum class Phase : std::uint8_t { kScan, kClaiming, kWaiting, kReadBack, kOwning, kRetired, kDone, kStopped };

  SlotClaim(const MembershipConfig& config, HeldLock& lock, LeaseIo& io, Random& random);

  // Begins, or begins anew after a life (`previous`, or null) whose I/O was reaped. Nothing of mine is in flight but sweeps.
  void start(const OwnLease* previous, Nanos now);
  void observe(const LeaseSweep& sweep);  // every sweep, also while nothing is wanted
  void on_sweep(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now);
  void on_write(const OwnWrite& write, const PeerWatch& watch, Nanos now);
  void tick(Nanos now);

  Phase phase() const { return phase_; }
  // A sweep is wanted that is submitted from now on.
  bool wants_sweep(Nanos now) const;
  Nanos deadline() const;
  const std::string& why() const { return why_; }
  int error_code() const { return error_code_; }
  // After kDone: my lease, and the submit of its first OWNED beat.
  const OwnLease& lease() const { return *lease_; }
  Nanos owned_since() const { return owned_submitted_; }

 private:
  void choose(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now);
  void note_read_errors(const LeaseSweep& sweep, Nanos now);
  void begin_life(const LeaseSweep& sweep, const SlotChoice& choice);
  void read_back(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now);
  void own(const PeerWatch& watch, Nanos now);
  void retire(Nanos wait, std::string why, Nanos now);
  void stop(int error_code, std::string why);

  const MembershipConfig& config_;
  HeldLock& lock_;
  LeaseIo& io_;
  Random& random_;
  SlotChooser chooser_;
  Nanos claim_limit_, join_, dead_, fence_, beat_;

  Phase phase_ = Phase::kScan;
  const OwnLease* previous_ = nullptr;
  std::optional<OwnLease> lease_;
  std::optional<Lease> claim_;  // as written
  Nanos scan_from_ = 0;         // only sweeps submitted since then count
  Nanos swept_ = kNever;        // submit of the latest sweep looked at
  Nanos seen_free_ = 0;         // submit of the sweep that showed the slot free
  Nanos wait_ = 0;              // of this claim
  Nanos until_ = kNever;        // end of a wait
  Nanos owned_submitted_ = 0;
  Nanos unreadable_since_ = kNever;
  std::string why_;
  int error_code_ = 0;
};

}  // namespace stp
