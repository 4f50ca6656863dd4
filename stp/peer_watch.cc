#include "stp/peer_watch.h"

#include <algorithm>

#include "stp/plant.h"

namespace stp {

Nanos CoveredTime::advance(Nanos submitted) {
  const Nanos passed = running_ ? submitted - last_ : 0;
  running_ = true;
  last_ = submitted;
  if (planted(Plant::kCountStalledTime)) return std::max<Nanos>(passed, 0);
  return std::clamp<Nanos>(passed, 0, cap_);
}

PeerWatch::PeerWatch(const Superblock& superblock, const StorageIdentity& mine)
    : dead_(superblock.timing.dead_ms * kMillisecond),
      detection_(superblock.timing.detection_ms() * kMillisecond),
      cap_((Nanos{superblock.timing.observe_ms} + superblock.timing.observe_io_ms) * kMillisecond),
      mine_(mine),
      records_(superblock.geometry.hosts, Record{.lease = {}, .covered = CoveredTime(cap_)}) {}

void PeerWatch::set_self(const Identity& self) {
  // A slot that I leave, or come into, is known anew: I did not watch it while it was mine.
  if (self_.slot != self.slot)
    for (const Slot slot : {self_.slot, self.slot})
      if (slot < records_.size()) records_[slot] = Record{.lease = {}, .covered = CoveredTime(cap_)};
  self_ = self;
  for (Record& r : records_) r.watched = 0;
}

void PeerWatch::observe(const LeaseSweep& sweep) {
  for (Slot slot = 0; slot < records_.size() && slot < sweep.slots.size(); ++slot)
    if (slot != self_.slot) observe_slot(records_[slot], sweep.slots[slot], sweep.submitted);
}

void PeerWatch::observe_slot(Record& r, const LeaseReading& reading, Nanos submitted) {
  r.unreadable = !reading.good();
  r.claimed = reading.good() && reading.lease().state == LeaseState::kClaim;
  if (r.unreadable) ++faults_.unreadable;
  if (reading.error != 0) {
    r.covered.interrupt();
    return;
  }
  // A block that could be read but does not check covers time, too: whoever lives there would have written it anew.
  const Nanos passed = r.covered.advance(submitted);
  const bool news = reading.good() && accept(r, reading.lease());
  if (!r.known) return;
  r.silent = news ? 0 : r.silent + passed;
  r.watched += passed;
  judge(r, submitted, reading.good() && reading.lease().state == LeaseState::kOwned && reading.lease().owner == r.lease.owner);
}

bool PeerWatch::accept(Record& r, const Lease& lease) {
  // A claim is a wish, not a life: it may lose, and whoever owns the slot goes on with a lower incarnation.
  if (lease.state == LeaseState::kClaim) return false;
  const bool older = planted(Plant::kTakeOlderLease) && r.known && lease.owner.incarnation < r.lease.owner.incarnation;
  if (!r.known || older || lease.owner.incarnation > r.lease.owner.incarnation) return accept_new_life(r, lease);
  if (lease.owner.incarnation < r.lease.owner.incarnation) return false;
  if (lease.owner.nonce != r.lease.owner.nonce) {
    ++faults_.foreign_nonces;
    return false;
  }
  return accept_beat(r, lease);
}

bool PeerWatch::accept_new_life(Record& r, const Lease& lease) {
  const bool first_look = !r.known;
  r.known = true;
  r.lease = lease;
  r.watched = 0;
  r.lock_free_since = kNever;
  if (lease.state == LeaseState::kFree)
    r.state = lease.name.empty() && lease.owner.incarnation == 0 ? PeerState::kUnknown : PeerState::kLeft;
  else
    r.state = first_look ? PeerState::kUnknown : PeerState::kAlive;  // what was there before me must be seen to beat first
  return true;
}

bool PeerWatch::accept_beat(Record& r, const Lease& lease) {
  if (lease.beat == r.lease.beat && lease.randomness != r.lease.randomness) ++faults_.foreign_beats;
  if (lease.beat <= r.lease.beat) return false;
  std::vector<Seen> before = std::move(r.lease.seen);
  r.lease = lease;
  if (r.lease.seen.empty()) r.lease.seen = std::move(before);  // the list was torn, the core was not
  if (r.state == PeerState::kDead && !planted(Plant::kVerdictNotFinal)) return true;
  r.state = lease.state == LeaseState::kFree ? PeerState::kLeft : PeerState::kAlive;
  return true;
}

void PeerWatch::judge(Record& r, Nanos submitted, bool still_there) {
  if (r.lease.state != LeaseState::kOwned || r.state == PeerState::kDead) return;
  // Its process let the lock go, and a look at the lease since then shows no leave and no new life.
  const bool lock_lost = submitted >= r.lock_free_since && still_there;
  if (lock_lost || r.silent >= dead_) r.state = PeerState::kDead;
}

bool PeerWatch::wants_probe() const {
  return std::ranges::any_of(records_, [this](const Record& r) {
    return r.known && r.lease.state == LeaseState::kOwned && r.state != PeerState::kDead && same_kernel(r.lease);
  });
}

bool PeerWatch::probe(SlotLocks& locks, Nanos now) {
  bool came_free = false;
  if (!locks.usable()) return false;
  for (Slot slot = 0; slot < records_.size(); ++slot) {
    Record& r = records_[slot];
    if (slot == self_.slot || !r.known || r.lease.state != LeaseState::kOwned || r.state == PeerState::kDead || !same_kernel(r.lease))
      continue;
    switch (locks.probe(slot)) {
      case SlotLocks::State::kHeld:
        r.lock_free_since = kNever;
        if (r.state == PeerState::kUnknown) r.state = PeerState::kAlive;
        break;
      case SlotLocks::State::kFree:
        // It had the lock before it wrote the lease that I have read, so it gave it up since: by leaving, or by dying.
        r.lock_free_since = std::min(r.lock_free_since, now);
        came_free = true;
        break;
      case SlotLocks::State::kUnknown:
        break;
    }
  }
  return came_free;
}

std::vector<Seen> PeerWatch::seen() const {
  std::vector<Seen> out(records_.size());
  for (Slot slot = 0; slot < records_.size(); ++slot) {
    const Record& r = records_[slot];
    if (slot == self_.slot || !r.known) continue;
    const std::uint32_t flags = r.state == PeerState::kAlive ? Seen::kAlive : r.state == PeerState::kDead && !planted(Plant::kVerdictNotPublished) ? Seen::kRefused : 0;
    out[slot] = {.incarnation = r.lease.owner.incarnation, .nonce = r.lease.owner.nonce, .flags = flags};
  }
  return out;
}

const Seen* PeerWatch::what_it_sees_of_me(const Record& r) const {
  if (self_.slot >= r.lease.seen.size()) return nullptr;
  const Seen& s = r.lease.seen[self_.slot];
  return s.incarnation == self_.incarnation && s.nonce == self_.nonce ? &s : nullptr;
}

Peer PeerWatch::describe(const Record& r, Slot slot) const {
  Peer p;
  if (!r.known || slot == self_.slot) return p;
  p.state = r.state;
  p.identity = r.lease.owner;
  p.name = r.lease.name;
  p.same_kernel = same_kernel(r.lease);
  p.silent_s = static_cast<double>(r.silent) / kSecond;
  const Seen* me = what_it_sees_of_me(r);
  p.sees_me = me && (me->flags & Seen::kAlive);
  p.refused_me = me && (me->flags & Seen::kRefused);
  p.one_way = self_.slot != kNoSlot && r.state == PeerState::kAlive && !p.sees_me && r.watched >= detection_;
  return p;
}

std::vector<Peer> PeerWatch::peers() const {
  std::vector<Peer> out;
  out.reserve(records_.size());
  for (Slot slot = 0; slot < records_.size(); ++slot) out.push_back(describe(records_[slot], slot));
  return out;
}

Slot PeerWatch::slots_in_use() const {
  Slot end = self_.slot == kNoSlot ? 0 : self_.slot + 1;
  for (Slot slot = 0; slot < records_.size(); ++slot) {
    const Record& r = records_[slot];
    if (r.unreadable || r.claimed || (r.known && (r.lease.state == LeaseState::kOwned || !r.lease.name.empty())))
      end = std::max(end, slot + 1);
  }
  return end;
}

std::optional<Slot> PeerWatch::refuser() const {
  for (Slot slot = 0; slot < records_.size(); ++slot) {
    const Record& r = records_[slot];
    // One that I called dead counts, too: two that convicted each other would otherwise refuse each other for ever.
    if ((r.state != PeerState::kAlive && r.state != PeerState::kDead) || slot == self_.slot || self_.slot >= r.lease.seen.size()) continue;
    const Seen& me = r.lease.seen[self_.slot];
    const bool mine = me.incarnation == self_.incarnation && me.nonce == self_.nonce;
    if (me.incarnation > self_.incarnation + kSaneDistance) continue;  // nonsense must not chase me from life to life
    if (mine ? (me.flags & Seen::kRefused) != 0 : r.state == PeerState::kAlive && me.incarnation >= self_.incarnation) return slot;
  }
  return std::nullopt;
}

bool PeerWatch::same_kernel(const Lease& l) const { return StorageIdentity{l.boot_id, l.device, l.inode} == mine_; }

}  // namespace stp
