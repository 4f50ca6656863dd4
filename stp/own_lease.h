// My lease: what I write into my block, and what a reading of that block says about me.
//
// Pure. It remembers the randomness of the beats it wrote, so that "an older beat of mine landed late" can be told from
// "somebody else writes as me" (a clone, or a machine rolled back to a snapshot).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "stp/lease.h"
#include "stp/lease_io.h"
#include "stp/membership.h"
#include "stp/random.h"

namespace stp {

enum class OwnVerdict : std::uint8_t {
  kMine,     // my latest beat, or an earlier one of this life
  kRewrite,  // a late write, damage, or a rival's claim on a slot whose lease is good: write mine again
  kStop,     // somebody else lives here, or lives as me: never write here again
};

struct OwnJudgement {
  OwnVerdict verdict = OwnVerdict::kMine;
  std::string why;  // words for kStop
};

class OwnLease {
 public:
  static constexpr std::size_t kHistory = 65536;

  OwnLease() = default;
  // `last_beat`: the beat below the first one that this life writes.
  OwnLease(const MembershipConfig& config, const Identity& identity, std::string name, std::uint64_t last_beat = 0);

  const Identity& identity() const { return identity_; }
  const std::string& name() const { return name_; }

  // The next beat, with fresh randomness; it counts as submitted from here on.
  Lease next(LeaseState state, Random& random, std::vector<Seen> seen);
  OwnJudgement judge(const LeaseReading& reading, bool lease_good) const;
  // Whether `lease` is exactly what was written last.
  bool is_latest(const Lease& lease) const;

 private:
  OwnJudgement judge_other(const Lease& lease, bool lease_good) const;
  OwnJudgement judge_same(const Lease& lease) const;
  OwnJudgement stop(std::string seen) const;

  StorageIdentity storage_;
  std::uint32_t pid_ = 0;
  std::uint32_t beat_ms_ = 0;
  Identity identity_;
  std::string name_;
  Lease latest_;
  std::uint64_t beat_ = 0;                // highest submitted
  std::deque<std::uint64_t> randomness_;  // first 8 bytes of it, of the beats up to beat_
};

}  // namespace stp
