#include "tests/sim/sim_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "stp/lease.h"
#include "tests/sim/workload.h"

namespace stp::sim {
namespace {

std::string text(const Identity& i) { return fmt::format("slot {} incarnation {} nonce {:x}", i.slot, i.incarnation, i.nonce); }

const char* text(MemberState s) {
  switch (s) {
    case MemberState::kJoining: return "joining";
    case MemberState::kMember: return "member";
    case MemberState::kFenced: return "fenced";
    case MemberState::kLeaving: return "leaving";
    case MemberState::kLeft: return "left";
    case MemberState::kStopped: return "stopped";
  }
  return "?";
}

const char* text(PeerState s) {
  switch (s) {
    case PeerState::kUnknown: return "unknown";
    case PeerState::kAlive: return "alive";
    case PeerState::kDead: return "dead";
    case PeerState::kLeft: return "left";
  }
  return "?";
}

}  // namespace

SimProcess* SimChecks::holder_of(const Identity& identity) {
  for (SimProcess* p : processes_)
    if (p->alive() && p->self().identity == identity) return p;
  return nullptr;
}

// Whether two processes may get into each other's way: a fault that cannot be laid at anybody's door, or one of theirs.
bool SimChecks::excused(const SimProcess& a, const SimProcess& b) const { return plan_.anybody_may_suffer() || a.suffered() || b.suffered(); }

void SimChecks::view_changed(SimProcess& process, const MembershipBoard::View& before) {
  world_.trace(process.id() * 16 + static_cast<std::uint64_t>(process.self().state), process.self().identity.incarnation);
  if (process.self().state == MemberState::kMember) first_member_.try_emplace(process.id(), world_.now());
  check_self(process, before);
  check_peers(process, before);
}

void SimChecks::check_self(SimProcess& process, const MembershipBoard::View& before) {
  const Self& self = process.self();
  if (self.why != before.self.why && self.state == MemberState::kJoining && world_.verbose()) world_.say(fmt::format("{}: {}", process.label(), self.why));
  if (self.state == before.self.state && self.identity == before.self.identity) return;
  if (world_.verbose()) world_.say(fmt::format("{} is {} ({}) {}", process.label(), text(self.state), text(self.identity), self.why));
  if (self.state == MemberState::kFenced || self.state == MemberState::kStopped) {
    // A second host of a name is to be refused, and one for whom no slot is free; that is how it is.
    const bool own_fault = process.suffered() || plan_.anybody_may_suffer() || (self.state == MemberState::kStopped && (process.may_be_refused() || self.error_code == ENOSPC));
    process.note_suffering(text(self.state));
    if (!own_fault) world_.fail("nobody stops without a reason", fmt::format("{} is {}: {}", process.label(), text(self.state), self.why));
    return;
  }
  if (self.state != MemberState::kMember) return;
  const auto key = std::pair(self.identity.slot, self.identity.incarnation);
  auto [at, fresh] = owners_.try_emplace(key, process.id(), self.identity.nonce);
  const auto& [owner, nonce] = at->second;
  if (!fresh && owner == process.id() && (nonce != self.identity.nonce || before.self.state == MemberState::kFenced))
    return world_.fail("an incarnation is lived once", fmt::format("{} came back as {}, which it had been", process.label(), text(self.identity)));
  if (!fresh && owner != process.id() && !excused(process, process))
    return world_.fail("an incarnation is lived once", fmt::format("{} is {}, which {} had been", process.label(), text(self.identity), this->process(owner).label()));
  for (SimProcess* other : processes_) {
    if (other == &process || other->self().identity.slot != self.identity.slot || !other->believes_member() || other->frozen()) continue;
    if (excused(process, *other)) continue;
    world_.fail("one owner a slot", fmt::format("{} and {} both own slot {}", process.label(), other->label(), self.identity.slot));
  }
}

void SimChecks::check_peers(SimProcess& process, const MembershipBoard::View& before) {
  const MembershipBoard::View& view = process.view();
  for (Slot slot = 0; slot < view.peers.size(); ++slot) {
    const Peer& peer = view.peers[slot];
    const Peer old = slot < before.peers.size() ? before.peers[slot] : Peer{};
    if (peer.state == PeerState::kUnknown || (peer.state == old.state && peer.identity == old.identity && peer.one_way == old.one_way)) continue;
    Memory& memory = memory_[{process.id(), slot}];
    if (world_.verbose())
      world_.say(fmt::format("{} sees \"{}\" {}{} ({})", process.label(), peer.name, text(peer.state), peer.one_way ? ", one-way" : "", text(peer.identity)));
    if (peer.state == PeerState::kAlive) {
      if (memory.dead.contains({peer.identity.incarnation, peer.identity.nonce}))
        return world_.fail("a verdict is final", fmt::format("{} called {} dead, and now alive", process.label(), text(peer.identity)));
      if (peer.identity.incarnation < memory.highest)
        return world_.fail("incarnations go up", fmt::format("{} takes {} for alive after incarnation {}", process.label(), text(peer.identity), memory.highest));
      memory.highest = peer.identity.incarnation;
      SimProcess* subject = holder_of(peer.identity);
      if (peer.one_way && !old.one_way && subject != nullptr && !excused(process, *subject))
        return world_.fail("no host is called one-way without a reason", fmt::format("{} says so of {}", process.label(), subject->label()));
    }
    if (peer.state == PeerState::kDead && (old.state != PeerState::kDead || old.identity != peer.identity)) check_verdict(process, slot, peer);
  }
}

void SimChecks::check_verdict(SimProcess& judge, Slot slot, const Peer& peer) {
  memory_[{judge.id(), slot}].dead.insert({peer.identity.incarnation, peer.identity.nonce});
  SimProcess* subject = holder_of(peer.identity);
  if (subject == nullptr) return;
  const bool innocent = subject->believes_member() && !subject->frozen() && !subject->suffered();
  if (innocent && !plan_.anybody_may_suffer())
    return world_.fail("no living host is convicted", fmt::format("{} calls {} dead ({:.3f} s silent), which lives and holds its lease", judge.label(),
                                                                  subject->label(), peer.silent_s));
  subject->note_suffering("convicted by " + judge.label());
}

void SimChecks::write_submitted(ProcessId id, std::uint64_t block, ConstBytes data) {
  const Geometry& g = plan_.superblock.geometry;
  SimProcess& writer = process(id);
  Slot slot = kNoSlot;
  if (block >= g.lease_first && block < g.lease_first + g.hosts) {
    slot = static_cast<Slot>(block - g.lease_first);
  } else if (block >= g.gate_first && block < g.gate_first + static_cast<std::uint64_t>(g.hosts) * g.hosts) {
    slot = static_cast<Slot>((block - g.gate_first) % g.hosts);
  } else if (block >= g.area_first && block < g.superblock_copy()) {
    slot = static_cast<Slot>((block - g.area_first) / g.area_blocks);
  } else {
    return world_.fail("writes stay in their region", fmt::format("{} writes block {}, which is nobody's", writer.label(), block));
  }
  const OpenedBlock opened = open_any_block(data, kLeaseMagic);
  const bool lease = block < g.gate_first;
  if (lease && opened.fault != BlockFault::kNone)
    return world_.fail("leases are whole", fmt::format("{} writes a lease that does not check: {}", writer.label(), to_string(opened.fault)));
  if (writer.hostile()) return;
  if (!lease && slot != writer.self().identity.slot)
    return world_.fail("one writer a block", fmt::format("{} writes block {} of slot {}", writer.label(), block, slot));
  for (SimProcess* other : processes_) {
    if (other->id() == id || other->self().identity.slot != slot || !other->believes_member() || other->frozen()) continue;
    if (excused(writer, *other)) continue;
    return world_.fail("one writer a block", fmt::format("{} writes block {}, which belongs to {}", writer.label(), block, other->label()));
  }
}

void SimChecks::process_quiet(ProcessId id) {
  SimProcess& p = process(id);
  if (!p.alive()) p.machine().locks.release_all(id);
}

void SimChecks::stream_failed(SimProcess& mine, const Stream* stream, bool i_connected, const SocketError& error, const char* where) {
  if (world_.verbose())
    world_.say(fmt::format("{} {} stream {:x}: errno {} ({})", mine.label(), where, stream == nullptr ? 0 : stream->id, error.code, describe(error.reason)));
  if (plan_.anybody_may_suffer() || mine.suffered() || stream == nullptr) return;
  const ProcessId other = i_connected ? stream->to : stream->from;
  if (other == 0) {
    for (SimProcess* p : processes_)
      if (p->suffered()) return;
  } else if (process(other).suffered()) {
    return;
  }
  const Flow& to_me = i_connected ? stream->back : stream->forth;
  const Flow& from_me = i_connected ? stream->forth : stream->back;
  if (to_me.cut || from_me.cut || from_me.deaf) return;
  world_.fail("no stream fails without a reason", fmt::format("{} on {}, stream {:x} ({} bytes sent, {} received): errno {} ({})", where, mine.label(),
                                                              stream->id, from_me.sent, to_me.received, error.code, describe(error.reason)));
}

void SimChecks::drained_well(const SimProcess& sender, const Stream& stream, bool i_connected) {
  const ProcessId id = i_connected ? stream.to : stream.from;
  const Flow& flow = i_connected ? stream.forth : stream.back;
  if (id == 0 || flow.cut || sender.suffered()) return;
  SimProcess& receiver = process(id);
  if (flow.given_up && flow.had < flow.sent && !receiver.suffered() && !plan_.has(Trouble::kHostile) && !plan_.has(Trouble::kOtherView))
    return world_.fail("what came to a closed socket is lost", fmt::format("{} closed stream {:x}, and was told that all {} bytes arrived; {} ended it when it had {}",
                                                                   sender.label(), stream.id, flow.sent, receiver.label(), flow.had));
  if (flow.deaf) return;
  if (!receiver.alive() || receiver.suffered() || receiver.engine() == nullptr) return;
  const auto info = receiver.engine()->info(i_connected ? stream.to_socket : stream.from_socket);
  if (!info || flow.received + info->readable_bytes >= flow.sent) return;
  world_.fail("what was acknowledged is there", fmt::format("{} closed stream {:x}, and was told that all {} bytes arrived; {} has {} and {} to read", sender.label(),
                                                            stream.id, flow.sent, receiver.label(), flow.received, info->readable_bytes));
}

void SimChecks::lost_something(const SimProcess& sender, const Stream& stream, bool i_connected) {
  const ProcessId id = i_connected ? stream.to : stream.from;
  const Flow& there = i_connected ? stream.forth : stream.back;
  if (id == 0 || there.cut || !there.eof || there.received != there.sent || sender.suffered()) return;
  if (plan_.has(Trouble::kLateWrites) || plan_.has(Trouble::kOtherView) || plan_.has(Trouble::kHostile)) return;
  const SimProcess& receiver = process(id);
  if (receiver.suffered() && (receiver.suffering() != SimProcess::kLeft || !receiver.left_in_order())) return;
  world_.fail("what was read had arrived", fmt::format("{} closed stream {:x}, and was told that not all of {} bytes arrived; {} has read them, to the end",
                                                       sender.label(), stream.id, there.sent, receiver.label()));
}

void SimChecks::clone_beats(SimProcess& process) {
  process.note_suffering("a clone of it beats");
  clones_.push_back({.process = &process, .identity = process.self().identity, .since = world_.now()});
  look_at_clone(clones_.size() - 1);
}

void SimChecks::look_at_clone(std::size_t index) {
  Clone& c = clones_[index];
  const SimProcess& p = *c.process;
  const Nanos beat = static_cast<Nanos>(plan_.superblock.timing.beat_ms + plan_.superblock.timing.beat_io_ms) * kMillisecond;
  if (!p.running() || p.self().identity != c.identity || p.self().state != MemberState::kMember || plan_.anybody_may_suffer()) return;
  if (p.frozen()) return;
  if (world_.now() - c.since > 6 * beat)
    return world_.fail("who is not alone with his identity stops", fmt::format("{} goes on although a clone of it beats", p.label()));
  world_.after(beat / 4, [this, index] { look_at_clone(index); });
}

void SimChecks::note_damaged_leases(SimStorage& storage) {
  const Superblock& s = plan_.superblock;
  for (Slot slot = 0; slot < s.geometry.hosts; ++slot)
    leases_damaged_ |= decode_lease(storage.look(s.geometry.lease(slot)), s.uuid, s.geometry, slot).fault != BlockFault::kNone;
}

void SimChecks::everything_ended() {
  for (SimProcess* p : processes_) {
    if (!p->alive() || p->frozen() || world_.failed()) continue;
    const std::string open = p->workload().describe_open();
    if (!open.empty()) world_.fail("all work ends once faults stop", fmt::format("{} still has {}", p->label(), open));
  }
}

bool SimChecks::somebody_just_came() const {
  return std::ranges::any_of(processes_, [this](const SimProcess* p) {
    const auto since = first_member_.find(p->id());
    return p->running() && since != first_member_.end() && world_.now() - since->second < to_be_seen();
  });
}

Nanos SimChecks::to_be_seen() const {
  const Timing& t = plan_.superblock.timing;
  return 2 * (Nanos{t.beat_ms} + t.beat_io_ms + t.observe_ms + t.observe_io_ms) * kMillisecond;
}

void SimChecks::everybody_sees_everybody() {
  for (SimProcess* p : processes_) {
    if (!p->running() || world_.failed()) continue;
    if (p->self().state != MemberState::kMember && leases_damaged_) continue;
    // The kernel has not ended the I/O of a dead program yet, and keeps its lock: who comes back under its name waits a while for that.
    const bool lock_of_the_dead = std::ranges::any_of(p->machine().locks.holder, [this](const auto& held) {
      return std::ranges::any_of(processes_, [&held](const SimProcess* other) { return other->id() == held.second && !other->alive(); });
    });
    if (p->self().state == MemberState::kJoining && lock_of_the_dead) continue;
    if (p->self().state != MemberState::kMember)
      return world_.fail("everybody comes back once faults stop", fmt::format("{} is {}: {}", p->label(), text(p->self().state), p->self().why));
    for (SimProcess* q : processes_) {
      if (q == p || !q->running() || q->self().state != MemberState::kMember) continue;
      const Slot slot = q->self().identity.slot;
      const Peer peer = slot < p->view().peers.size() ? p->view().peers[slot] : Peer{};
      if (peer.state != PeerState::kAlive || peer.identity != q->self().identity || !peer.sees_me || peer.one_way)
        return world_.fail("everybody sees everybody once faults stop",
                           fmt::format("{} sees {} as {} ({}){}{}", p->label(), q->label(), text(peer.state), text(peer.identity),
                                       peer.sees_me ? "" : ", not seeing me", peer.one_way ? ", one-way" : ""));
    }
  }
}

}  // namespace stp::sim
