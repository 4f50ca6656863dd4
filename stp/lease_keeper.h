// Keeps the lease of a life: beats every B, but looks at the own block before each beat, and only while the engine
// makes progress. Says until when the lease is good, or that it must never be written again.
//
// Lease age runs from the submit of the last beat that completed. One life, one LeaseKeeper.
#pragma once

#include <optional>
#include <string>

#include "stp/lease_io.h"
#include "stp/own_lease.h"
#include "stp/peer_watch.h"

namespace stp {

class LeaseKeeper {
 public:
  // `first_beat`: submit of the beat that began this life.
  LeaseKeeper(const MembershipConfig& config, LeaseIo& io, Random& random, OwnLease lease, Nanos first_beat, Nanos now);

  const OwnLease& lease() const { return lease_; }
  Nanos good_until() const { return good_until_; }
  // Words, when the own block says that somebody else lives here, or as me: the life is over and may not come back.
  const std::optional<std::string>& stopped() const { return stopped_; }

  void note_progress(std::uint64_t progress, Nanos now);
  void on_sweep(const LeaseSweep& sweep, Nanos now);
  void on_read(const OwnRead& read, Nanos now);
  void on_write(const OwnWrite& write, Nanos now);
  // Writes or reads what is due.
  void tick(const PeerWatch& watch, Nanos now);
  Nanos deadline() const;

  // Instead of the next beat: the FREE lease that ends this life in order, after a last look at the own block.
  void leave(Nanos now);
  bool left() const { return left_; }

 private:
  bool lease_good(Nanos now) const { return now < good_until_; }
  bool engine_alive(Nanos now) const;
  bool judge(const LeaseReading& reading, Nanos now);
  void beat(const PeerWatch& watch, Nanos now);

  LeaseIo& io_;
  Random& random_;
  OwnLease lease_;
  Nanos beat_period_, fence_, check_;

  Nanos good_until_;
  Nanos next_beat_;
  Nanos written_;                 // when the last write was reaped: a look must be submitted after it
  std::optional<Nanos> checked_;  // submit of a look at the own block that nothing of mine has followed
  std::uint64_t progress_ = 0;
  std::uint64_t progress_at_beat_ = 0;
  Nanos progressed_;  // when progress was last seen to change
  bool leaving_ = false;
  bool left_ = false;
  std::optional<std::string> stopped_;
};

}  // namespace stp
