// Watches the leases of the other hosts, and judges them: alive, dead, left.
//
// Pure but for the slot locks that it is handed. What is read is untrusted: only sound blocks count, and within a slot
// only what is newer (a higher incarnation, or a higher beat of the same one). Silence counts only over stretches that two
// consecutive successful reads cover, so that a stall of the storage convicts nobody. A verdict is final for its incarnation.
#pragma once

#include <optional>
#include <vector>

#include "stp/lease_io.h"
#include "stp/membership_board.h"
#include "stp/slot_locks.h"
#include "stp/superblock.h"

namespace stp {

// Adds up the time that consecutive successful reads cover.
class CoveredTime {
 public:
  explicit CoveredTime(Nanos cap = 0) : cap_(cap) {}
  // The time since the read before, at most `cap`; 0 when that one failed, or there was none.
  Nanos advance(Nanos submitted);
  void interrupt() { running_ = false; }  // a read failed

 private:
  Nanos cap_;
  Nanos last_ = 0;
  bool running_ = false;
};

struct PeerFaults {
  std::uint64_t unreadable = 0;      // reads that failed, or blocks that did not check
  std::uint64_t foreign_nonces = 0;  // an incarnation that was there already, with another nonce
  std::uint64_t foreign_beats = 0;   // a beat that was there already, with another randomness
};

class PeerWatch {
 public:
  PeerWatch(const Superblock& superblock, const StorageIdentity& mine);

  // Who I am now; slot kNoSlot while I am nobody. The own slot is not watched.
  void set_self(const Identity& self);
  void observe(const LeaseSweep& sweep);
  // Looks at the locks of hosts on this kernel. True: a lock came free; read the leases now, then judge.
  bool probe(SlotLocks& locks, Nanos now);
  bool wants_probe() const;  // there is somebody whose lock can be looked at

  std::vector<Seen> seen() const;  // for my own lease
  std::vector<Peer> peers() const;
  Slot slots_in_use() const;
  // The slot of a living host that will never accept my incarnation: its lease says that it called it dead, or that it knows a later
  // one of my slot (a life before this one, whose lease an older write undid before I read it).
  std::optional<Slot> refuser() const;
  const PeerFaults& faults() const { return faults_; }

 private:
  struct Record {
    PeerState state = PeerState::kUnknown;
    bool known = false;       // `lease` holds something
    bool unreadable = false;  // as last read
    bool claimed = false;     // a CLAIM lies there, as last read
    Lease lease;              // the newest one accepted; never a CLAIM
    CoveredTime covered;
    Nanos silent = 0;
    Nanos watched = 0;  // covered time since I am who I am, and it is who it is
    Nanos lock_free_since = kNever;
  };

  void observe_slot(Record& r, const LeaseReading& reading, Nanos submitted);
  bool accept(Record& r, const Lease& lease);  // true: it is news
  bool accept_new_life(Record& r, const Lease& lease);
  bool accept_beat(Record& r, const Lease& lease);
  void judge(Record& r, Nanos submitted, bool still_there);
  bool same_kernel(const Lease& lease) const;
  const Seen* what_it_sees_of_me(const Record& r) const;
  Peer describe(const Record& r, Slot slot) const;

  Nanos dead_;
  Nanos detection_;
  Nanos cap_;  // most that one read may add to a silence: P + R
  StorageIdentity mine_;
  Identity self_;
  std::vector<Record> records_;
  PeerFaults faults_;
};

}  // namespace stp
