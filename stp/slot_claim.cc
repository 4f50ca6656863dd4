#include "stp/slot_claim.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "stp/plant.h"

namespace stp {
namespace {

// Two rivals for one slot add different numbers to the same highest incarnation, nearly always.
constexpr std::uint64_t kIncarnationSpread = 65536;

constexpr Nanos kSoon = 20 * kMillisecond;

}  // namespace

SlotClaim::SlotClaim(const MembershipConfig& config, HeldLock& lock, LeaseIo& io, Random& random)
    : config_(config),
      lock_(lock),
      io_(io),
      random_(random),
      chooser_(config, lock),
      claim_limit_(config.superblock.timing.claim_ms * kMillisecond),
      join_(config.superblock.timing.join_ms * kMillisecond),
      dead_(config.superblock.timing.dead_ms * kMillisecond),
      fence_(config.superblock.timing.fence_ms * kMillisecond),
      beat_(config.superblock.timing.beat_ms * kMillisecond) {}

void SlotClaim::start(const OwnLease* previous, Nanos now) {
  phase_ = Phase::kScan;
  previous_ = previous;
  scan_from_ = now;
  swept_ = kNever;
  until_ = kNever;
  unreadable_since_ = kNever;
  error_code_ = 0;
  why_ = "joining: reads the leases";
}

void SlotClaim::observe(const LeaseSweep& sweep) { chooser_.observe(sweep); }

bool SlotClaim::wants_sweep(Nanos now) const {
  if (phase_ == Phase::kScan) return swept_ == kNever;
  return phase_ == Phase::kReadBack && now >= until_ && swept_ == kNever;
}

Nanos SlotClaim::deadline() const {
  return phase_ == Phase::kScan || phase_ == Phase::kWaiting || (phase_ == Phase::kRetired && !io_.writing()) ? until_ : kNever;
}

void SlotClaim::tick(Nanos now) {
  if (now < until_) return;
  if (phase_ == Phase::kScan) {
    swept_ = until_ = kNever;  // another look
  } else if (phase_ == Phase::kWaiting) {
    phase_ = Phase::kReadBack;
    scan_from_ = now;
    swept_ = kNever;
  } else if (phase_ == Phase::kRetired && !io_.writing()) {
    start(previous_, now);
  }
}

void SlotClaim::on_sweep(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now) {
  if ((phase_ != Phase::kScan && phase_ != Phase::kReadBack) || sweep.submitted < scan_from_) return;
  swept_ = sweep.submitted;
  note_read_errors(sweep, now);
  if (phase_ == Phase::kStopped || !sweep.any_read()) return;
  if (phase_ == Phase::kScan)
    choose(sweep, watch, now);
  else
    read_back(sweep, watch, now);
}

void SlotClaim::note_read_errors(const LeaseSweep& sweep, Nanos now) {
  if (sweep.any_read()) {
    unreadable_since_ = kNever;
    return;
  }
  if (unreadable_since_ == kNever) unreadable_since_ = now;
  const int error = sweep.slots.empty() ? EIO : sweep.slots.front().error;
  why_ = fmt::format("joining: the leases cannot be read (errno {}); tries again for {:.1f} s", error, in_seconds(dead_));
  if (now - unreadable_since_ >= dead_)
    stop(EIO,
         fmt::format("cannot join storage group \"{}\": its leases could not be read for {:.1f} s (errno {}); check the disk and its path",
                     config_.superblock.stg, in_seconds(now - unreadable_since_), error));
}

void SlotClaim::choose(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now) {
  SlotChoice choice = chooser_.choose(sweep, previous_);
  switch (choice.what) {
    case SlotChoice::What::kWait:
      why_ = std::move(choice.why);
      if (choice.soon) until_ = now + kSoon;
      return;
    case SlotChoice::What::kStop:
      stop(choice.error_code, std::move(choice.why));
      return;
    case SlotChoice::What::kTake:
      begin_life(sweep, choice);
      why_ = fmt::format("joining: takes slot {} as \"{}\"", choice.slot, choice.name);
      own(watch, now);
      return;
    case SlotChoice::What::kClaim:
      break;
  }
  begin_life(sweep, choice);
  seen_free_ = sweep.submitted;
  wait_ = choice.wait;
  phase_ = Phase::kClaiming;
  claim_ = lease_->next(LeaseState::kClaim, random_, watch.seen());
  io_.write(*claim_, now);
  why_ = fmt::format("joining: claims slot {} as \"{}\", and waits {:.1f} s for the writes of rivals to land", choice.slot, choice.name,
                     in_seconds(wait_));
}

void SlotClaim::begin_life(const LeaseSweep& sweep, const SlotChoice& choice) {
  std::uint64_t highest = chooser_.highest_incarnation(choice.slot);
  std::uint64_t last_beat = 0;
  if (previous_ && previous_->identity().slot == choice.slot) highest = std::max(highest, previous_->identity().incarnation);
  Identity me{.slot = choice.slot, .incarnation = highest + 1 + random_.below(kIncarnationSpread), .nonce = random_.next()};
  if (me.nonce == 0) me.nonce = 1;
  const LeaseReading& there = sweep.slots[choice.slot];
  if (planted(Plant::kReuseIncarnation) && there.good() && there.lease().owner.incarnation > 0) {
    me = there.lease().owner;
    last_beat = there.lease().beat;
  }
  lease_.emplace(config_, me, choice.name, last_beat);
  claim_.reset();
}

void SlotClaim::on_write(const OwnWrite& write, const PeerWatch& watch, Nanos now) {
  if (phase_ == Phase::kClaiming) {
    // A claim that took longer than X may land after a rival has read back: nothing can be built on it.
    if (write.error != 0) return retire(join_, fmt::format("the claim could not be written (errno {})", write.error), now);
    if (now - seen_free_ > claim_limit_) return retire(join_, "the claim took too long to land", now);
    phase_ = Phase::kWaiting;
    until_ = planted(Plant::kSkipJoinWait) ? now : now + wait_;
    if (planted(Plant::kSkipReadBack)) own(watch, now);
  } else if (phase_ == Phase::kOwning) {
    if (write.error != 0) return retire(join_, fmt::format("the first beat could not be written (errno {})", write.error), now);
    if (now >= write.submitted + fence_) return retire(0, "the first beat took longer than a lease lasts", now);
    owned_submitted_ = write.submitted;
    phase_ = Phase::kDone;
  }
}

void SlotClaim::read_back(const LeaseSweep& sweep, const PeerWatch& watch, Nanos now) {
  const Slot slot = lease_->identity().slot;
  const LeaseReading& there = sweep.slots[slot];
  const Nanos delay = static_cast<Nanos>(random_.below(static_cast<std::uint64_t>(beat_)));
  if (there.error != 0) return;  // read it back again
  if (!there.good() || !lease_->is_latest(there.lease())) return retire(delay, fmt::format("somebody else wrote to slot {}", slot), now);
  if (chooser_.name_lost(sweep, lease_->name(), slot)) {
    chooser_.abandon_claim(*claim_);
    return retire(delay, fmt::format("another program or host became \"{}\"", lease_->name()), now);
  }
  own(watch, now);
}

void SlotClaim::own(const PeerWatch& watch, Nanos now) {
  phase_ = Phase::kOwning;
  io_.write(lease_->next(LeaseState::kOwned, random_, watch.seen()), now);
}

void SlotClaim::retire(Nanos wait, std::string why, Nanos now) {
  phase_ = Phase::kRetired;
  until_ = now + wait;
  why_ = fmt::format("joining: {}; tries again in {:.1f} s", why, in_seconds(wait));
  if (!(previous_ && previous_->identity().slot == lock_.slot())) lock_.release();
}

void SlotClaim::stop(int error_code, std::string why) {
  phase_ = Phase::kStopped;
  error_code_ = error_code;
  why_ = std::move(why);
  if (!io_.writing()) lock_.release();
}

}  // namespace stp
