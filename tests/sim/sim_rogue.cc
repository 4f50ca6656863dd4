#include "tests/sim/sim_rogue.h"

#include <algorithm>

#include "stp/gate.h"

namespace stp::sim {

SimRogue::SimRogue(SimContext context, SimProcess& process, SimMedium& medium)
    : context_(context),
      process_(process),
      medium_(medium),
      random_(process.random().split()),
      buffer_(context.plan.superblock.geometry.block_size),
      sequences_(context.plan.superblock.geometry.hosts, 1),
      data_(context.plan.superblock.geometry.block_size) {}

Nanos SimRogue::step() {
  IoCompletion done;
  while (medium_.reap({&done, 1}) == 1) busy_ = false;
  // Who broke the protocol is not listened to any more: it comes back as somebody new.
  if (random_.chance(0.01) && process_.self().state == MemberState::kMember) process_.board().want_rebirth(process_.self().identity.incarnation);
  if (process_.self().identity != was_) {
    was_ = process_.self().identity;
    std::ranges::fill(sequences_, 1);
  }
  if (!busy_ && process_.self().state == MemberState::kMember) write_something();
  return random_.log_between(300 * kMicrosecond, 30 * kMillisecond);
}

// Mostly near what would make sense: that gets further.
std::uint64_t SimRogue::wild(std::uint64_t sensible) {
  switch (random_.below(6)) {
    case 0: return random_.next();
    case 1: return ~std::uint64_t{0} - random_.below(3);
    case 2: return sensible + random_.below(3);
    case 3: return static_cast<std::uint64_t>(random_.log_between(1, 1 << 30));
    default: return sensible;
  }
}

void SimRogue::add_message(PacketBuilder& packet) {
  const Geometry& g = context_.plan.superblock.geometry;
  const SessionId session{.counter = wild(random_.below(20)), .initiator = random_.chance(0.5)};
  const Slot me = process_.self().identity.slot;
  switch (random_.below(10)) {
    case 0:
    case 1: {
      OpenMessage m{.destination_port = static_cast<std::uint16_t>(100 + random_.below(4)), .source_port = static_cast<std::uint16_t>(random_.next())};
      m.tell_accepted = random_.chance(0.5);
      m.limit = wild(1 << 20);
      packet.append(session, m);
      return;
    }
    case 2: packet.append(session, OpenAckMessage{.accepted = random_.chance(0.5), .scb = 1, .limit = wild(1 << 20)}); return;
    case 3: packet.append(session, RefuseMessage{static_cast<Reason>(wild(1))}); return;
    case 4: {
      const std::size_t n = std::min<std::size_t>(static_cast<std::size_t>(random_.log_between(1, 2000)), packet.data_room());
      for (std::size_t i = 0; i < n; ++i) data_[i] = static_cast<std::byte>(random_.next());
      packet.append(session, DataMessage{.offset = wild(0), .bytes = ConstBytes(data_).first(n)});
      return;
    }
    case 5:
      packet.append(session, ExtentMessage{.offset = wild(0), .place = wild(g.extent(me, static_cast<std::uint32_t>(random_.below(g.extents)))),
                                           .length = static_cast<std::uint32_t>(wild(8192)), .attempt = static_cast<std::uint32_t>(wild(0)), .hash = wild(0)});
      return;
    case 6: packet.append(session, CreditMessage{wild(1 << 20)}); return;
    case 7: packet.append(session, ConsumedMessage{wild(4096)}); return;
    case 8: packet.append(session, NackMessage{.offset = wild(0), .length = static_cast<std::uint32_t>(wild(8192)), .attempt = static_cast<std::uint32_t>(wild(0))}); return;
    default: random_.chance(0.5) ? packet.append(session, FinMessage{wild(0)}) : packet.append(session, ResetMessage{static_cast<Reason>(wild(9))}); return;
  }
}

void SimRogue::make_packet(Bytes block, const Peer& peer) {
  const Superblock& s = context_.plan.superblock;
  std::uint64_t& next = sequences_[peer.identity.slot];
  const std::uint64_t sequence = random_.chance(0.8) ? next++ : std::max<std::uint64_t>(1, wild(next));
  PacketBuilder packet(block);
  for (std::uint64_t n = random_.below(8); n > 0; --n) add_message(packet);
  packet.seal(process_.self().identity, peer.identity, sequence, wild(random_.below(4)), s.uuid, s.geometry);
  place_ = s.geometry.packet(process_.self().identity.slot, peer.identity.slot, sequence);
  if (!random_.chance(0.3)) return;
  // Bent, and sealed again: lengths, types and counts that no honest builder makes.
  OpenedBlock opened = open_any_block(block, kPacketMagic);
  for (std::uint64_t n = 1 + random_.below(6); n > 0; --n)
    block[kBlockHeaderSize + random_.below(std::max<std::size_t>(opened.header.body_length, 1))] = static_cast<std::byte>(random_.next());
  if (random_.chance(0.3)) opened.header.body_length = static_cast<std::uint32_t>(random_.below(block.size() - kBlockHeaderSize + 1));
  seal_block(block, opened.header);
}

void SimRogue::make_gate(Bytes block, const Peer& peer) {
  const Superblock& s = context_.plan.superblock;
  Gate gate;
  gate.sender = process_.self().identity;
  gate.receiver = peer.identity;
  gate.sequence = wild(context_.world.events());
  gate.head = wild(sequences_[peer.identity.slot]);
  gate.ack = wild(random_.below(8));
  gate.ack_seen = wild(random_.below(8));
  gate.flags = static_cast<std::uint32_t>(random_.next());
  if (random_.chance(0.02)) {
    gate.refused_incarnation = peer.identity.incarnation;
    gate.refused_nonce = peer.identity.nonce;
  }
  encode_gate(block, gate, s.uuid, s.geometry);
  place_ = s.geometry.gate(peer.identity.slot, process_.self().identity.slot);
}

void SimRogue::write_something() {
  const Geometry& g = context_.plan.superblock.geometry;
  const Slot me = process_.self().identity.slot;
  std::vector<const Peer*> peers;
  for (const Peer& p : process_.view().peers)
    if (p.state == PeerState::kAlive) peers.push_back(&p);
  if (peers.empty()) return;
  const Peer& peer = *peers[random_.below(peers.size())];
  const std::uint64_t kind = random_.below(20);
  if (kind < 12) {
    make_packet(buffer_.span(), peer);
  } else if (kind < 17) {
    make_gate(buffer_.span(), peer);
  } else {
    for (std::size_t i = 0; i < buffer_.size(); i += 64) buffer_.data()[i] = static_cast<std::byte>(random_.next());
    // Its own tables and extents; or, as noise, a block of somebody's ring.
    place_ = kind < 19 ? g.area(me) + random_.below(g.area_blocks) : g.ring(peer.identity.slot, me) + random_.below(g.ring_blocks);
  }
  busy_ = true;
  medium_.submit({.op = IoRequest::Op::kWrite, .block = place_, .blocks = 1, .buffer = buffer_.data(), .token = 1});
  medium_.flush();
}

}  // namespace stp::sim
