#include "stp/lease_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "stp/medium.h"
#include "stp/system.h"

namespace stp {
namespace {

bool is_held(const DecodedLease& l) { return l.fault == BlockFault::kNone && l.lease.state != LeaseState::kFree; }

bool same_beat(const Lease& a, const Lease& b) { return a.beat == b.beat && a.owner == b.owner && a.randomness == b.randomness; }

HostState first_state(BlockSource& storage, const DecodedLease& l, Slot slot) {
  if (l.fault != BlockFault::kNone) return HostState::kUnreadable;
  if (l.lease.state == LeaseState::kFree) return l.lease.name.empty() ? HostState::kFree : HostState::kLeft;
  if (l.lease.state == LeaseState::kClaim) return HostState::kJoining;
  switch (storage.holder(slot, l.lease)) {
    case BlockSource::Holder::kThere: return HostState::kAlive;
    case BlockSource::Holder::kGone: return HostState::kDead;
    case BlockSource::Holder::kUnknown: break;
  }
  return HostState::kSilent;
}

std::vector<HostReport> first_reports(BlockSource& storage, const std::vector<DecodedLease>& leases) {
  std::vector<HostReport> reports;
  for (Slot slot = 0; slot < leases.size(); ++slot) {
    HostReport r;
    r.slot = slot;
    r.fault = leases[slot].fault;
    r.lease = leases[slot].lease;
    r.state = first_state(storage, leases[slot], slot);
    reports.push_back(std::move(r));
  }
  return reports;
}

// Takes another reading of the leases into the reports.
void take_reading(BlockSource& storage, std::vector<HostReport>& reports, const std::vector<DecodedLease>& leases, Nanos passed) {
  for (HostReport& r : reports) {
    const DecodedLease& now = leases[r.slot];
    const bool was_held = r.fault == BlockFault::kNone && r.lease.state != LeaseState::kFree;
    const bool changed = was_held && is_held(now) && !same_beat(now.lease, r.lease);
    const bool other = now.fault != r.fault || (now.fault == BlockFault::kNone && now.lease.owner != r.lease.owner) ||
                       now.lease.state != r.lease.state || now.lease.name != r.lease.name;
    r.beat_age = changed ? 0 : r.beat_age + passed;
    r.beat_seen |= changed;
    r.fault = now.fault;
    r.lease = now.lease;
    if (other) r.state = first_state(storage, now, r.slot);
    if (changed && now.lease.state == LeaseState::kOwned) r.state = HostState::kAlive;
  }
}

// Who calls whom alive or dead, of those that are there. A living host's "dead, for good" settles a silent one.
void judge_sight(std::vector<HostReport>& reports) {
  for (HostReport& r : reports) {
    if (r.state != HostState::kAlive || r.lease.seen.empty()) continue;
    for (HostReport& other : reports) {
      if (other.slot == r.slot || other.slot >= r.lease.seen.size() || !other.held() || other.state == HostState::kUnreadable) continue;
      const Seen& seen = r.lease.seen[other.slot];
      const bool this_life = seen.incarnation == other.lease.owner.incarnation && seen.nonce == other.lease.owner.nonce;
      if (this_life && (seen.flags & Seen::kRefused) != 0) {
        r.refuses.push_back(other.slot);
        if (other.state == HostState::kSilent) other.state = HostState::kDead;
      } else if (this_life && (seen.flags & Seen::kAlive) != 0) {
        r.sees.push_back(other.slot);
      } else if (other.state == HostState::kAlive) {
        r.does_not_see.push_back(other.slot);
      }
    }
  }
}

// `known`: slots whose leases are not read again when they do not check, for they did not before.
Result<std::vector<DecodedLease>> read_leases_but(BlockSource& storage, const WatchClock& clock, const std::vector<bool>& known) {
  const Superblock& s = storage.superblock();
  const Geometry& g = s.geometry;
  const AlignedBuffer buffer(static_cast<std::size_t>(g.hosts) * g.block_size);
  std::vector<DecodedLease> leases;
  for (int reading = 0; reading < kReadings; ++reading) {
    if (reading > 0) clock.sleep(kBetweenReadings);
    if (auto ok = storage.read(g.lease_first, buffer.span().first(static_cast<std::size_t>(g.hosts) * g.block_size)); !ok)
      return std::unexpected(ok.error());
    leases.clear();
    bool all_well = true;
    for (Slot slot = 0; slot < g.hosts; ++slot) {
      leases.push_back(decode_lease(buffer.span().subspan(static_cast<std::size_t>(slot) * g.block_size, g.block_size), s.uuid, g, slot));
      all_well &= leases.back().fault == BlockFault::kNone || (slot < known.size() && known[slot]);
    }
    if (all_well) break;
  }
  return leases;
}

// So long after its last beat at most a living host is seen to beat again.
Nanos sure_after(const BlockSource& storage) {
  const Timing& t = storage.superblock().timing;
  return (2 * static_cast<Nanos>(t.beat_ms) + t.beat_io_ms + t.observe_ms) * kMillisecond;
}

Result<std::vector<HostReport>> watch_beats(BlockSource& storage, const WatchClock& clock, bool watch) {
  auto leases = read_leases(storage, clock);
  if (!leases) return std::unexpected(leases.error());
  std::vector<HostReport> reports = first_reports(storage, *leases);
  const Nanos begin = clock.now();
  const Nanos end = begin + sure_after(storage);
  const Nanos step = std::max<Nanos>(storage.superblock().timing.observe_ms * kMillisecond / 4, 20 * kMillisecond);
  const auto undecided = [](const HostReport& r) { return r.state == HostState::kSilent; };
  Nanos last = begin;
  while (watch && last < end && std::ranges::any_of(reports, undecided)) {
    clock.sleep(step);
    leases = read_leases(storage, clock);
    if (!leases) return std::unexpected(leases.error());
    const Nanos now = clock.now();
    take_reading(storage, reports, *leases, now - last);
    last = now;
  }
  return reports;
}

}  // namespace

WatchClock WatchClock::real() {
  return {.now = [] { return boottime_now(); }, .sleep = [](Nanos t) { std::this_thread::sleep_for(std::chrono::nanoseconds(t)); }};
}

std::string_view to_string(HostState state) {
  switch (state) {
    case HostState::kFree: return "free";
    case HostState::kLeft: return "left";
    case HostState::kJoining: return "joining";
    case HostState::kAlive: return "alive";
    case HostState::kSilent: return "silent";
    case HostState::kDead: return "dead";
    case HostState::kUnreadable: return "unreadable";
  }
  return "?";
}

std::string HostReport::title() const { return lease.name.empty() ? fmt::format("slot {}", slot) : lease.name; }

Result<std::vector<DecodedLease>> read_leases(BlockSource& storage, const WatchClock& clock) { return read_leases_but(storage, clock, {}); }

Result<std::vector<HostReport>> observe_hosts(BlockSource& storage, const WatchClock& clock, bool watch) {
  auto reports = watch_beats(storage, clock, watch);
  if (reports) judge_sight(*reports);
  return reports;
}

Result<std::vector<HostReport>> HostWatch::look(BlockSource& storage) {
  const Nanos now = clock_.now();
  if (reports_.empty() || reports_.size() != storage.superblock().geometry.hosts || now - last_ > sure_after(storage)) {
    reports_.clear();
    auto reports = watch_beats(storage, clock_, true);
    if (!reports) return reports;
    reports_ = std::move(*reports);
  } else {
    std::vector<bool> bad;
    for (const HostReport& r : reports_) bad.push_back(r.fault != BlockFault::kNone);
    const auto leases = read_leases_but(storage, clock_, bad);
    if (!leases) return std::unexpected(leases.error());
    take_reading(storage, reports_, *leases, now - last_);
    for (HostReport& r : reports_) {
      if (r.state != HostState::kAlive && r.state != HostState::kSilent && r.state != HostState::kDead) continue;
      const HostState told = first_state(storage, (*leases)[r.slot], r.slot);
      const bool beats = r.beat_seen && r.beat_age <= sure_after(storage);
      r.state = told != HostState::kSilent ? told : beats ? HostState::kAlive : HostState::kSilent;
    }
  }
  last_ = clock_.now();
  std::vector<HostReport> judged = reports_;
  judge_sight(judged);
  return judged;
}

}  // namespace stp
