#include "tests/sim/hostile_writer.h"

#include <algorithm>

#include "stp/checksum.h"
#include "stp/gate.h"

namespace stp::sim {
namespace {

constexpr std::size_t kMostKnown = 16;
constexpr std::uint64_t kWindow = 1 << 20;

}  // namespace

HostileWriter::HostileWriter(const Superblock& superblock, Decisions& decisions, Look look)
    : superblock_(superblock), g_(superblock.geometry), decisions_(decisions), look_(std::move(look)), pairs_(g_.hosts), data_(g_.block_size, kMark) {}

void HostileWriter::begin_life(const Identity& self) {
  self_ = self;
  std::ranges::fill(pairs_, Pair{});
}

HostileWriter::Pair& HostileWriter::pair_with(const Identity& peer) {
  Pair& pair = pairs_[peer.slot];
  if (pair.peer != peer) pair = {.peer = peer, .next = 1, .taken = 0, .known = {}};
  return pair;
}

// -- What the peer says

void HostileWriter::read_ring(Pair& pair) {
  for (std::uint32_t i = 0; i < g_.ring_blocks; ++i) {
    const OpenedPacket packet = open_packet(look_(g_.packet(pair.peer.slot, self_.slot, pair.taken + 1)), superblock_.uuid, g_, pair.peer.slot, self_.slot, pair.taken + 1);
    if (packet.fault != BlockFault::kNone || packet.writer != pair.peer || packet.addressee != self_ || packet.sequence != pair.taken + 1) return;
    ++pair.taken;
    MessageReader reader(packet);
    while (auto message = reader.next()) note(pair, *message);
  }
}

void HostileWriter::note(Pair& pair, const Message& message) {
  auto known = std::ranges::find(pair.known, message.session, &Known::id);
  if (const auto* open = std::get_if<OpenMessage>(&message.body)) {
    if (known == pair.known.end() && pair.known.size() < kMostKnown) pair.known.push_back({.id = message.session, .allowed = open->limit});
    return;
  }
  if (known == pair.known.end()) return;
  if (const auto* ack = std::get_if<OpenAckMessage>(&message.body)) known->allowed = ack->limit;
  if (const auto* credit = std::get_if<CreditMessage>(&message.body)) known->allowed = credit->limit;
  if (const auto* data = std::get_if<DataMessage>(&message.body)) known->received = data->offset + data->bytes.size();
  if (const auto* extent = std::get_if<ExtentMessage>(&message.body)) known->received = extent->offset + extent->length;
  if (std::holds_alternative<ResetMessage>(message.body) || std::holds_alternative<RefuseMessage>(message.body)) pair.known.erase(known);
}

// -- What it says

HostileWriter::Known& HostileWriter::some_session(Pair& pair) {
  // One that there is, as a rule; made up now and then.
  if (pair.known.empty() || one_in(8)) {
    static Known none;
    none = {.id = {.counter = decisions_.near(decisions_.below(20)), .initiator = one_in(2)}};
    return none;
  }
  return pair.known[decisions_.below(pair.known.size())];
}

void HostileWriter::add_message(Pair& pair, PacketBuilder& packet) {
  const std::uint64_t kind = decisions_.below(16);
  if (kind < 2) {
    const SessionId id{.counter = decisions_.near(next_session_), .initiator = !one_in(16)};
    OpenMessage m{.destination_port = static_cast<std::uint16_t>(100 + decisions_.below(4)), .source_port = static_cast<std::uint16_t>(decisions_.near(4000)), .scb = 1};
    m.tell_accepted = one_in(2);
    m.limit = decisions_.near(kWindow);
    if (!packet.append(id, m)) return;
    next_session_ = std::max(next_session_, id.counter) + 1;
    if (pair.known.size() < kMostKnown) pair.known.push_back({.id = id, .allowed = 0});
    return;
  }
  Known& known = some_session(pair);
  switch (kind) {
    case 2:
    case 3: packet.append(known.id, OpenAckMessage{.accepted = one_in(2), .scb = 1, .limit = decisions_.near(kWindow)}); return;
    case 4: packet.append(known.id, RefuseMessage{static_cast<Reason>(decisions_.near(1))}); return;
    case 5:
    case 6:
    case 7: {
      const std::size_t n = std::min<std::size_t>({static_cast<std::size_t>(1 + decisions_.below(2000)), packet.data_room(), data_.size()});
      const std::uint64_t offset = decisions_.near(known.sent);
      if (packet.append(known.id, DataMessage{.offset = offset, .bytes = ConstBytes(data_).first(n)}) && offset == known.sent) known.sent += n;
      return;
    }
    case 8:
    case 9: {
      const std::uint64_t place = g_.extent(self_.slot, static_cast<std::uint32_t>(decisions_.below(g_.extents)));
      const std::uint64_t offset = decisions_.near(known.sent);
      const std::uint32_t length = static_cast<std::uint32_t>(decisions_.near(g_.block_size));
      const ExtentMessage m{.offset = offset, .place = decisions_.near(place), .length = length, .attempt = static_cast<std::uint32_t>(decisions_.near(0)),
                            .hash = decisions_.near(hash64(offset, data_))};
      if (packet.append(known.id, m) && offset == known.sent && length == g_.block_size) known.sent += length;
      return;
    }
    case 10: packet.append(known.id, CreditMessage{decisions_.near(known.received + kWindow)}); return;
    case 11: packet.append(known.id, ConsumedMessage{decisions_.near(known.received)}); return;
    case 12: packet.append(known.id, NackMessage{.offset = decisions_.near(known.received), .length = static_cast<std::uint32_t>(decisions_.near(g_.block_size)), .attempt = static_cast<std::uint32_t>(decisions_.near(0))}); return;
    case 13: packet.append(known.id, FinMessage{decisions_.near(known.sent)}); return;
    case 14: packet.append(known.id, ResetMessage{static_cast<Reason>(decisions_.near(9))}); return;
    default: packet.append(known.id, UnreadMessage{}); return;
  }
}

std::uint64_t HostileWriter::make_packet(Pair& pair, Bytes block) {
  const std::uint64_t sequence = one_in(8) ? std::max<std::uint64_t>(1, decisions_.near(pair.next)) : pair.next++;
  PacketBuilder packet(block);
  for (std::uint64_t n = decisions_.below(8); n > 0; --n) add_message(pair, packet);
  packet.seal(self_, pair.peer, sequence, decisions_.near(pair.taken), superblock_.uuid, g_);
  const std::uint64_t place = g_.packet(self_.slot, pair.peer.slot, sequence);
  if (!one_in(8)) return place;
  // Bent, and sealed again: lengths, types and counts that no honest builder makes.
  OpenedBlock opened = open_any_block(block, kPacketMagic);
  for (std::uint64_t n = 1 + decisions_.below(6); n > 0; --n)
    block[kBlockHeaderSize + decisions_.below(std::max<std::size_t>(opened.header.body_length, 1))] = static_cast<std::byte>(decisions_.below(256));
  if (one_in(3)) opened.header.body_length = static_cast<std::uint32_t>(decisions_.below(block.size() - kBlockHeaderSize + 1));
  seal_block(block, opened.header);
  return place;
}

std::uint64_t HostileWriter::make_gate(Pair& pair, Bytes block) {
  Gate gate;
  gate.sender = self_;
  gate.receiver = pair.peer;
  gate.sequence = decisions_.near(++gates_);
  gate.head = decisions_.near(pair.next - 1);
  gate.ack = decisions_.near(pair.taken);
  gate.ack_seen = decisions_.near(pair.next - 1);
  if (one_in(4)) gate.held = static_cast<std::uint32_t>(decisions_.near(pair.taken));
  gate.flags = static_cast<std::uint32_t>(decisions_.below(4));
  if (one_in(50)) {
    gate.refused_incarnation = decisions_.near(pair.peer.incarnation);
    gate.refused_nonce = pair.peer.nonce;
  }
  encode_gate(block, gate, superblock_.uuid, g_);
  return g_.gate(pair.peer.slot, self_.slot);
}

std::uint64_t HostileWriter::make_extent(Bytes block) {
  std::ranges::fill(block, kMark);
  return g_.extent(self_.slot, static_cast<std::uint32_t>(decisions_.below(g_.extents)));
}

std::uint64_t HostileWriter::make_noise(const Identity& peer, Bytes block) {
  for (std::size_t i = 0; i < block.size(); i += 512) block[i] = static_cast<std::byte>(decisions_.below(256));
  // In its own tables and extents; or in the peer's ring for it.
  return one_in(3) ? g_.ring(peer.slot, self_.slot) + decisions_.below(g_.ring_blocks) : g_.area(self_.slot) + decisions_.below(g_.area_blocks);
}

std::uint64_t HostileWriter::next_block(Bytes block, const Identity& peer) {
  Pair& pair = pair_with(peer);
  read_ring(pair);
  const std::uint64_t kind = decisions_.below(20);
  if (kind < 12) return make_packet(pair, block);
  if (kind < 16) return make_gate(pair, block);
  if (kind < 18) return make_extent(block);
  return make_noise(peer, block);
}

}  // namespace stp::sim
