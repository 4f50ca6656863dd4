#include "stp/own_lease.h"

#include <fmt/format.h>

#include <utility>

namespace stp {

OwnLease::OwnLease(const MembershipConfig& config, const Identity& identity, std::string name, std::uint64_t last_beat)
    : storage_(config.identity),
      pid_(config.pid),
      beat_ms_(config.superblock.timing.beat_ms),
      identity_(identity),
      name_(std::move(name)),
      beat_(last_beat) {}

Lease OwnLease::next(LeaseState state, Random& random, std::vector<Seen> seen) {
  Lease l;
  l.owner = identity_;
  l.state = state;
  l.pid = pid_;
  l.name = name_;
  l.boot_id = storage_.boot_id;
  l.device = storage_.device;
  l.inode = storage_.inode;
  l.beat = ++beat_;
  const std::uint64_t first = random.next();
  store_le<std::uint64_t>(l.randomness.data(), first);
  store_le<std::uint64_t>(l.randomness.data() + 8, random.next());
  l.beat_ms = beat_ms_;
  l.seen = std::move(seen);
  randomness_.push_back(first);
  if (randomness_.size() > kHistory) randomness_.pop_front();
  latest_ = l;
  return l;
}

bool OwnLease::is_latest(const Lease& lease) const {
  return lease.owner == latest_.owner && lease.state == latest_.state && lease.beat == latest_.beat &&
         lease.randomness == latest_.randomness;
}

OwnJudgement OwnLease::judge(const LeaseReading& reading, bool lease_good) const {
  if (reading.error != 0) return {OwnVerdict::kRewrite, {}};
  if (reading.reformatted)
    return stop("the storage was formatted while this host was using it (its lease block carries another storage UUID); start again");
  if (!reading.good()) return {OwnVerdict::kRewrite, {}};
  const Lease& lease = reading.lease();
  if (lease.owner.incarnation == identity_.incarnation && lease.owner.nonce == identity_.nonce) return judge_same(lease);
  return judge_other(lease, lease_good);
}

OwnJudgement OwnLease::judge_other(const Lease& lease, bool lease_good) const {
  const auto incarnation = lease.owner.incarnation;
  if (incarnation < identity_.incarnation) return {OwnVerdict::kRewrite, {}};
  if (incarnation == identity_.incarnation)
    return stop(
        fmt::format("another host writes there under my incarnation {} with another nonce (host \"{}\", pid {}); one of the two is a copy",
                    incarnation, lease.name, lease.pid));
  switch (lease.state) {
    case LeaseState::kClaim:
      // The rival believes me dead. While that is wrong, it will read my lease back, and retire.
      if (lease_good) return {OwnVerdict::kRewrite, {}};
      return stop(fmt::format("host \"{}\" (pid {}) claims it with incarnation {}, mine is {}", lease.name, lease.pid, incarnation,
                              identity_.incarnation));
    case LeaseState::kOwned:
      return stop(fmt::format("host \"{}\" (pid {}) owns it now with incarnation {}, mine is {}", lease.name, lease.pid, incarnation,
                              identity_.incarnation));
    case LeaseState::kFree:
      break;
  }
  return stop(fmt::format("it was freed with incarnation {}, mine is {}: this host was evicted; start again to come back", incarnation,
                          identity_.incarnation));
}

OwnJudgement OwnLease::judge_same(const Lease& lease) const {
  if (lease.beat > beat_)
    return stop(
        fmt::format("beat {} of my own incarnation {} is there, and I have only written up to {}: this machine was cloned, or rolled back "
                    "to a snapshot",
                    lease.beat, identity_.incarnation, beat_));
  const std::uint64_t back = beat_ - lease.beat;
  if (back >= randomness_.size()) return {OwnVerdict::kRewrite, {}};  // older than the history reaches: a very late write
  const std::uint64_t wrote = randomness_[randomness_.size() - 1 - back];
  if (load_le<std::uint64_t>(lease.randomness.data()) != wrote)
    return stop(
        fmt::format("beat {} of my own incarnation {} is there with a value that I never wrote: this machine was cloned, or rolled back "
                    "to a snapshot",
                    lease.beat, identity_.incarnation));
  return {OwnVerdict::kMine, {}};
}

OwnJudgement OwnLease::stop(std::string seen) const {
  return {OwnVerdict::kStop, fmt::format("host \"{}\" stopped for good: in its lease block (slot {}), {}", name_, identity_.slot, seen)};
}

}  // namespace stp
