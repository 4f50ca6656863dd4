#include "stp/evict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "stp/gate.h"
#include "stp/names.h"

namespace stp {
namespace {

constexpr std::uint64_t kIncarnationLeap = 65536;

struct Reading {
  std::vector<std::byte> block;
  DecodedLease lease;
};

class Eviction {
 public:
  Eviction(Storage& storage, Random& random, const EvictRequest& request)
      : storage_(storage), random_(random), request_(request), s_(storage.superblock()), g_(s_.geometry) {}
  Result<Evicted> run();

 private:
  Result<Slot> find_slot();
  Result<Reading> read() const;
  Result<void> check_lock(const Lease& lease, bool& settled) const;
  Result<void> watch(Reading& reading) const;
  std::uint64_t highest_incarnation(const Reading& reading) const;
  Result<Evicted> write_free(const Reading& reading);
  std::string title(const Reading& r) const {
    return r.lease.lease.name.empty() ? fmt::format("slot {}", slot_) : fmt::format("host \"{}\"", r.lease.lease.name);
  }
  std::unexpected<Error> alive(const Reading& r, const char* how) const {
    return fail(EBUSY, fmt::format("{} is alive: {}; stop its programs first", title(r), how));
  }

  Storage& storage_;
  Random& random_;
  const EvictRequest& request_;
  const Superblock& s_;
  const Geometry& g_;
  Slot slot_ = kNoSlot;
};

Result<Slot> Eviction::find_slot() {
  const std::string wanted = fold_name(request_.host);
  if (wanted.starts_with("slot:")) {
    const std::string_view number = std::string_view(wanted).substr(5);
    Slot slot = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), slot);
    if (error != std::errc{} || end != number.data() + number.size() || slot >= g_.hosts)
      return fail(EINVAL, fmt::format("\"{}\" is not a slot: there are slot:0 to slot:{}", request_.host, g_.hosts - 1));
    return slot;
  }
  if (!valid_instance_name(wanted)) return fail(EINVAL, fmt::format("\"{}\" is neither a host name nor slot:N", request_.host));
  auto leases = read_leases(storage_, request_.clock);
  if (!leases) return std::unexpected(leases.error());
  Slot found = kNoSlot;
  for (Slot slot = 0; slot < leases->size(); ++slot) {
    if ((*leases)[slot].fault != BlockFault::kNone || (*leases)[slot].lease.name != wanted) continue;
    if (found != kNoSlot) return fail(EEXIST, fmt::format("slots {} and {} both carry the name \"{}\": say which, as slot:{} or slot:{}", found, slot, wanted, found, slot));
    found = slot;
  }
  if (found == kNoSlot) return fail(ENOENT, fmt::format("no slot carries the name \"{}\"; `stp hosts` lists those that there are", wanted));
  return found;
}

Result<Reading> Eviction::read() const {
  Reading r{.block = std::vector<std::byte>(g_.block_size), .lease = {}};
  if (auto ok = storage_.read(g_.lease(slot_), r.block); !ok) return std::unexpected(ok.error());
  r.lease = decode_lease(r.block, s_.uuid, g_, slot_);
  return r;
}

// On the host's own kernel the lock says it all: free means that its process is gone and its writes have landed.
Result<void> Eviction::check_lock(const Lease& lease, bool& settled) const {
  const SlotLocks::State lock = storage_.locks().usable() ? storage_.locks().probe(slot_) : SlotLocks::State::kUnknown;
  if (lock == SlotLocks::State::kHeld)
    return fail(EBUSY, fmt::format("{} is alive: process {} on this machine holds it; stop it first",
                                   lease.name.empty() ? fmt::format("slot {}", slot_) : fmt::format("host \"{}\"", lease.name), lease.pid));
  settled = lock == SlotLocks::State::kFree && lease.state == LeaseState::kOwned && locks_tell(storage_, lease);
  return {};
}

// Any change of the block means that somebody writes it. Time counts only from one good reading to the next.
Result<void> Eviction::watch(Reading& reading) const {
  const Timing& t = s_.timing;
  const Nanos step = std::max<Nanos>(t.observe_ms * kMillisecond, 10 * kMillisecond);
  const Nanos needed = t.dead_ms * kMillisecond, too_long = 10 * needed;
  Nanos watched = 0, unread = 0, last = request_.clock.now();
  bool last_good = true;
  while (watched < needed) {
    if (request_.progress) request_.progress(watched, needed);
    request_.clock.sleep(step);
    auto now_read = read();
    const Nanos now = request_.clock.now(), passed = now - last;
    last = now;
    if (!now_read) {
      unread += passed;
      if (unread > too_long) return std::unexpected(now_read.error());
    } else {
      if (now_read->block != reading.block) return alive(*now_read, "its lease has just changed");
      if (last_good) watched += std::min(passed, 2 * step);  // a suspended machine has not watched
    }
    last_good = now_read.has_value();
  }
  if (request_.progress) request_.progress(needed, needed);
  return {};
}

// Of the lease; when it can not be read, of what the others know and what the host wrote into its gates.
std::uint64_t Eviction::highest_incarnation(const Reading& reading) const {
  if (reading.lease.fault == BlockFault::kNone) return reading.lease.lease.owner.incarnation;
  std::uint64_t highest = 0;
  if (auto leases = read_leases(storage_, request_.clock))
    for (const DecodedLease& l : *leases)
      if (l.fault == BlockFault::kNone && slot_ < l.lease.seen.size()) highest = std::max(highest, l.lease.seen[slot_].incarnation);
  std::vector<std::byte> block(g_.block_size);
  for (Slot receiver = 0; receiver < g_.hosts; ++receiver) {
    if (!storage_.read(g_.gate(receiver, slot_), block)) continue;
    if (const DecodedGate gate = decode_gate(block, s_.uuid, g_, receiver, slot_); gate.fault == BlockFault::kNone)
      highest = std::max(highest, gate.gate.sender.incarnation);
  }
  return highest > UINT64_MAX - kIncarnationLeap ? UINT64_MAX : highest + kIncarnationLeap;
}

Result<Evicted> Eviction::write_free(const Reading& reading) {
  Evicted out{.slot = slot_, .name = reading.lease.lease.name, .old_incarnation = highest_incarnation(reading)};
  out.incarnation = out.old_incarnation + 1 + random_.below(kIncarnationLeap);
  if (out.incarnation <= out.old_incarnation) return fail(EUCLEAN, fmt::format("slot {}: its incarnation {} can not grow; format anew", slot_, out.old_incarnation));
  Lease free_lease;
  free_lease.owner = {.slot = slot_, .incarnation = out.incarnation, .nonce = random_.next()};
  free_lease.state = LeaseState::kFree;
  std::vector<std::byte> block(g_.block_size);
  encode_lease(block, free_lease, s_.uuid, g_);
  if (auto ok = storage_.write(g_.lease(slot_), block); !ok) return std::unexpected(ok.error());
  auto back = read();
  if (!back) return std::unexpected(back.error());
  if (back->block != block)
    return fail(EBUSY, fmt::format("slot {}: somebody else wrote its lease at the same moment; look with `stp hosts` and try again", slot_));
  return out;
}

Result<Evicted> Eviction::run() {
  auto slot = find_slot();
  if (!slot) return std::unexpected(slot.error());
  slot_ = *slot;
  auto reading = read();
  if (!reading) return std::unexpected(reading.error());
  const Lease& lease = reading->lease.lease;
  const bool readable = reading->lease.fault == BlockFault::kNone;
  if (readable && lease.state == LeaseState::kFree && lease.name.empty()) return fail(ENOENT, fmt::format("slot {} is free already", slot_));
  bool settled = false;
  if (auto ok = check_lock(lease, settled); !ok) return std::unexpected(ok.error());
  if (readable && lease.state == LeaseState::kFree) settled = true;
  if (!settled)
    if (auto ok = watch(*reading); !ok) return std::unexpected(ok.error());
  // A last look, at the lock as well: a host that came back while this was deciding.
  auto again = read();
  if (!again) return std::unexpected(again.error());
  if (again->block != reading->block) return alive(*again, "its lease has just changed");
  if (auto ok = check_lock(again->lease.lease, settled); !ok) return std::unexpected(ok.error());
  return write_free(*again);
}

}  // namespace

Result<Evicted> evict_host(Storage& storage, Random& random, const EvictRequest& request) { return Eviction(storage, random, request).run(); }

}  // namespace stp
