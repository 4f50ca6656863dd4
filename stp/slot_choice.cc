#include "stp/slot_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "stp/names.h"
#include "stp/plant.h"

namespace stp {
namespace {

constexpr unsigned kMostInstances = 999;
// Incarnations grow by less than 2^17 a life; whoever wrote one near the end of the range damaged that slot.
constexpr std::uint64_t kLastIncarnation = UINT64_MAX - (1ull << 32);

std::string hex(const Uuid& id) {
  std::string out;
  for (std::size_t i = 0; i < 4; ++i) out += fmt::format("{:02x}", std::to_integer<unsigned>(id[i]));
  return out + "...";
}

}  // namespace

bool HeldLock::take(Slot slot) {
  if (slot_ == slot) return true;
  release();
  if (!locks_.usable() || !locks_.acquire(slot)) return false;
  slot_ = slot;
  return true;
}

void HeldLock::release() {
  if (slot_ != kNoSlot) locks_.release(slot_);
  slot_ = kNoSlot;
}

SlotChooser::SlotChooser(const MembershipConfig& config, HeldLock& lock)
    : config_(config),
      lock_(lock),
      dead_(config.superblock.timing.dead_ms * kMillisecond),
      join_(config.superblock.timing.join_ms * kMillisecond),
      fence_(config.superblock.timing.fence_ms * kMillisecond),
      late_((Nanos{config.superblock.timing.late_ms} * (1000 + config.superblock.timing.rho_thousandths)) * kMicrosecond),
      beat_(config.superblock.timing.beat_ms * kMillisecond),
      slots_(config.superblock.geometry.hosts) {
  const Timing& t = config.superblock.timing;
  for (Watched& w : slots_) w.covered = CoveredTime((Nanos{t.observe_ms} + t.observe_io_ms) * kMillisecond);
}

void SlotChooser::observe(const LeaseSweep& sweep) {
  const bool any_read = sweep.any_read();
  if (any_read && watching_since_ == kNever) watching_since_ = sweep.submitted;
  for (Slot slot = 0; slot < slots_.size() && slot < sweep.slots.size(); ++slot)
    observe_slot(slots_[slot], sweep.slots[slot], any_read, sweep.submitted);
  // What others have seen of a slot counts, too: an older write may have undone the lease of its last life.
  for (const LeaseReading& reading : sweep.slots) {
    if (!reading.good()) continue;
    for (Slot slot = 0; slot < slots_.size() && slot < reading.lease().seen.size(); ++slot)
      if (const auto seen = reading.lease().seen[slot].incarnation; seen <= kLastIncarnation && seen <= slots_[slot].highest + kSaneDistance)
        slots_[slot].highest = std::max(slots_[slot].highest, seen);
  }
}

void SlotChooser::observe_slot(Watched& w, const LeaseReading& reading, bool any_read, Nanos submitted) {
  if (!any_read) {
    w.covered.interrupt();
    return;
  }
  const Nanos passed = w.covered.advance(submitted);
  if (!reading.good()) {
    w.unreadable += passed;
    if (reading.error == 0) w.silent += passed;
    return;
  }
  w.unreadable = 0;
  const Lease& l = reading.lease();
  w.highest = std::max(w.highest, l.owner.incarnation);
  const Nanos read_before = std::exchange(w.read, submitted);
  if (l.owner == w.owner && l.beat > w.beat) {
    if (read_before - watching_since_ >= late_) ++w.changes;
    ++w.beats;
    w.silent = 0;
  } else if (l.owner != w.owner && (l.owner.incarnation >= w.owner.incarnation || w.state == LeaseState::kClaim)) {
    // A claim that lost does not outrank the owner who wrote over it, whatever its incarnation.
    w.owner = l.owner;
    w.changes = 0;
    w.beats = 0;
    w.silent = 0;
  } else {  // the same as before, or an old write that landed late
    w.silent += passed;
    if (l.owner != w.owner || l.beat < w.beat) return;
  }
  w.beat = l.beat;
  w.state = l.state;
}

bool SlotChooser::exhausted(Slot slot) const { return slots_[slot].highest > kLastIncarnation; }

SlotChoice SlotChooser::choose(const LeaseSweep& sweep, const OwnLease* previous) {
  for (Slot slot = 0; slot < slots_.size(); ++slot) {
    // An unreadable block may be that of a living host with my name: it would write it anew within T_fence.
    if (!sweep.slots[slot].good() && slots_[slot].unreadable < fence_)
      return {.what = SlotChoice::What::kWait,
              .slot = slot,
              .name = {},
              .wait = 0,
              .why = fmt::format("joining: waits up to {:.1f} s, because the lease of slot {} cannot be read ({})", in_seconds(fence_), slot,
                                 sweep.slots[slot].error != 0 ? "I/O error" : to_string(sweep.slots[slot].decoded.fault)),
              .error_code = 0};
  }
  if (previous)
    if (auto choice = choose_previous(sweep, *previous)) return *choice;
  for (unsigned number = 1; number <= kMostInstances; ++number) {
    const std::string name = instance_name(config_.host, number);
    if (!valid_instance_name(name)) break;
    bool exists = false;
    if (auto choice = choose_named(sweep, name, exists)) return *choice;
    if (!exists) return choose_free(sweep, name);
  }
  return {.what = SlotChoice::What::kStop,
          .slot = kNoSlot,
          .name = {},
          .wait = 0,
          .why = fmt::format("no instance name of \"{}\" is left on this machine: stop some of its programs, or use a shorter --host",
                             config_.host),
          .error_code = ENOSPC};
}

std::optional<SlotChoice> SlotChooser::choose_previous(const LeaseSweep& sweep, const OwnLease& previous) {
  const Slot slot = previous.identity().slot;
  const LeaseReading& reading = sweep.slots[slot];
  if (reading.error != 0) return std::nullopt;  // a bad block, not damage: I could not beat there
  const OwnJudgement judged = previous.judge(reading, false);
  const bool my_life = reading.good() && reading.lease().owner.incarnation == previous.identity().incarnation;
  if (judged.verdict == OwnVerdict::kStop) {
    // Somebody lives here as me: no new life makes that good. A higher incarnation is another life: join anew, by name.
    if (my_life || reading.reformatted)
      return SlotChoice{.what = SlotChoice::What::kStop, .slot = slot, .name = {}, .wait = 0, .why = judged.why, .error_code = ESTALE};
    return std::nullopt;
  }
  if (exhausted(slot)) return std::nullopt;
  // Somebody else's lease, if of a lower incarnation, is not always a late write: a rival who claimed before he could see mine may
  // own the slot by now. Join anew, by name, which watches whether it beats; on this kernel the lock tells.
  if (reading.good() && reading.lease().owner != previous.identity() && reading.lease().state != LeaseState::kFree) {
    const StorageIdentity holder{reading.lease().boot_id, reading.lease().device, reading.lease().inode};
    if (!lock_.usable() || holder != config_.identity) return std::nullopt;
  }
  if (lock_.usable() && !lock_.take(slot)) return std::nullopt;  // another program of this kernel is at it
  return SlotChoice{.what = SlotChoice::What::kTake, .slot = slot, .name = previous.name(), .wait = 0, .why = {}, .error_code = 0};
}

bool SlotChooser::free_for_all(const LeaseReading& reading) const {
  if (!reading.good()) return false;
  const Lease& l = reading.lease();
  if (l.state == LeaseState::kFree) return l.name.empty();
  return abandoned_ && l.state == LeaseState::kClaim && l.owner == abandoned_->owner && l.randomness == abandoned_->randomness;
}

std::optional<SlotChoice> SlotChooser::choose_named(const LeaseSweep& sweep, const std::string& name, bool& exists) {
  std::optional<SlotChoice> best;
  bool busy = false;
  bool watched = false;
  std::optional<SlotChoice> ending;
  for (Slot slot = 0; slot < slots_.size(); ++slot) {
    const LeaseReading& reading = sweep.slots[slot];
    if (!reading.good() || reading.lease().name != name || free_for_all(reading) || exhausted(slot)) continue;
    exists = true;
    switch (judge(slot, reading.lease())) {
      case Standing::kRefused:
        return refuse(slot, reading.lease());
      case Standing::kBusy:
        busy = true;
        break;
      case Standing::kEnding:
        ending = SlotChoice{.what = SlotChoice::What::kWait,
                            .slot = slot,
                            .name = name,
                            .wait = 0,
                            .why = fmt::format("joining: waits until the last program that was \"{}\" has ended, or beats", name),
                            .error_code = 0,
                            .soon = true};
        break;
      case Standing::kWatched:
        if (!watched)
          best = SlotChoice{.what = SlotChoice::What::kWait,
                            .slot = slot,
                            .name = name,
                            .wait = 0,
                            .why = fmt::format("joining: waits until the lease \"{}\" in slot {} has been silent for {:.1f} s, or beats",
                                               name, slot, in_seconds(silence_limit(reading.lease().state))),
                            .error_code = 0};
        watched = true;
        break;
      case Standing::kTakeable:
        if (!best || best->what == SlotChoice::What::kClaim)
          best = SlotChoice{.what = SlotChoice::What::kTake, .slot = slot, .name = name, .wait = 0, .why = {}, .error_code = 0};
        break;
      case Standing::kClaimable:
        if (!best)
          best = SlotChoice{.what = SlotChoice::What::kClaim, .slot = slot, .name = name, .wait = dead_, .why = {}, .error_code = 0};
        break;
    }
  }
  if (busy) return std::nullopt;
  if (ending) return ending;
  // Of several slots with one name the lowest counts; its lock may have been let go for the sake of another's.
  if (best && best->what == SlotChoice::What::kTake && !lock_.take(best->slot)) return std::nullopt;
  // Where locks work, an owner without one would be taken for dead by its own kernel.
  if (best && best->what == SlotChoice::What::kClaim && lock_.usable() && !lock_.take(best->slot)) return std::nullopt;
  return best;
}

SlotChooser::Standing SlotChooser::judge(Slot slot, const Lease& lease) {
  const StorageIdentity holder{lease.boot_id, lease.device, lease.inode};
  const bool same_kernel = holder == config_.identity;
  const Watched& w = slots_[slot];
  if (same_kernel && lock_.usable()) {
    if (lock_.take(slot)) return Standing::kTakeable;
    const bool ending = w.beats < kBeatsOfTheRunning && w.silent < kBeatsOfTheEnding * beat_;
    return ending ? Standing::kEnding : Standing::kBusy;
  }
  if (lease.state == LeaseState::kFree) return Standing::kClaimable;
  if (w.changes >= kBeatsOfTheLiving && !planted(Plant::kClaimWithoutSilence)) return holder.boot_id == config_.identity.boot_id ? Standing::kBusy : Standing::kRefused;
  return w.silent >= silence_limit(lease.state) || planted(Plant::kClaimWithoutSilence) ? Standing::kClaimable : Standing::kWatched;
}

SlotChoice SlotChooser::refuse(Slot slot, const Lease& lease) const {
  return {.what = SlotChoice::What::kStop,
          .slot = slot,
          .name = lease.name,
          .wait = 0,
          .why = fmt::format(
              "host name \"{}\" is in use by another machine (boot id {}, slot {}, its beat changes); choose another with STP_HOST "
              "or --host",
              lease.name, hex(lease.boot_id), slot),
          .error_code = EADDRINUSE};
}

SlotChoice SlotChooser::choose_free(const LeaseSweep& sweep, const std::string& name) {
  for (Slot slot = 0; slot < slots_.size(); ++slot) {
    if (!free_for_all(sweep.slots[slot]) || exhausted(slot)) continue;
    if (lock_.usable() && !lock_.take(slot)) continue;  // another program of this kernel is at it
    return {.what = SlotChoice::What::kClaim, .slot = slot, .name = name, .wait = join_, .why = {}, .error_code = 0};
  }
  return choose_leftover(sweep, name);
}

SlotChoice SlotChooser::choose_leftover(const LeaseSweep& sweep, const std::string& name) {
  bool watched = false;
  for (Slot slot = 0; slot < slots_.size(); ++slot) {
    if (exhausted(slot) || !is_leftover(sweep, slot)) continue;
    const Standing standing = judge(slot, sweep.slots[slot].lease());
    watched |= standing == Standing::kWatched;
    if (standing != Standing::kTakeable && standing != Standing::kClaimable) continue;
    if (lock_.usable() && !lock_.take(slot)) continue;
    return {.what = SlotChoice::What::kClaim, .slot = slot, .name = name, .wait = standing == Standing::kTakeable ? join_ : dead_, .why = {}, .error_code = 0};
  }
  if (!watched) return full(sweep, name);
  return {.what = SlotChoice::What::kWait,
          .slot = kNoSlot,
          .name = name,
          .wait = 0,
          .why = fmt::format("joining: waits until a claim that somebody may have left behind has been silent for {:.1f} s", in_seconds(silence_limit(LeaseState::kClaim))),
          .error_code = 0};
}

// A claim under a name whose owner lives in another slot: who made it lost the race for the name and ended before it could take the claim back.
// Nobody comes back for it by that name.
bool SlotChooser::is_leftover(const LeaseSweep& sweep, Slot slot) const {
  if (!sweep.slots[slot].good() || sweep.slots[slot].lease().state != LeaseState::kClaim) return false;
  const std::string& name = sweep.slots[slot].lease().name;
  for (Slot other = 0; other < slots_.size(); ++other) {
    const LeaseReading& reading = sweep.slots[other];
    const bool owned = other != slot && reading.good() && reading.lease().state == LeaseState::kOwned && reading.lease().name == name;
    if (owned && slots_[other].silent < dead_) return true;
  }
  return false;
}

SlotChoice SlotChooser::full(const LeaseSweep& sweep, const std::string& name) const {
  return {.what = SlotChoice::What::kStop,
          .slot = kNoSlot,
          .name = name,
          .wait = 0,
          .why = fmt::format(
              "no slot is free for host \"{}\": all {} are held ({}); free the slot of a host that is gone with \"stp evict HOST\"", name,
              slots_.size(), lease_name_list(sweep)),
          .error_code = ENOSPC};
}

bool SlotChooser::name_lost(const LeaseSweep& sweep, const std::string& name, Slot mine) const {
  for (Slot slot = 0; slot < sweep.slots.size(); ++slot) {
    const LeaseReading& reading = sweep.slots[slot];
    if (slot == mine || !reading.good() || reading.lease().name != name || free_for_all(reading)) continue;
    if (slots_[slot].silent >= silence_limit(reading.lease().state)) continue;
    // Owners go before claims, the lower claim before the higher.
    if (reading.lease().state == LeaseState::kOwned || (reading.lease().state == LeaseState::kClaim && slot < mine)) return true;
  }
  return false;
}

std::string lease_name_list(const LeaseSweep& sweep) {
  std::string out;
  for (Slot slot = 0; slot < sweep.slots.size(); ++slot) {
    const LeaseReading& r = sweep.slots[slot];
    if (!out.empty()) out += ", ";
    if (!r.good())
      out += fmt::format("{}: unreadable", slot);
    else if (r.lease().state == LeaseState::kFree)
      out += fmt::format("{}: kept for {}", slot, r.lease().name.empty() ? "nobody" : r.lease().name);
    else
      out += fmt::format("{}: {}", slot, r.lease().name);
    if (out.size() > 600) return out + ", ...";
  }
  return out;
}

}  // namespace stp
