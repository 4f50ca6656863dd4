#include "stp/scb.h"

#include <algorithm>

#include "stp/names.h"

namespace stp {
namespace {
constexpr std::size_t kScbSize = 128;
}

std::string_view to_string(ScbState state) {
  constexpr std::string_view kNames[] = {"FREE", "UNBOUND", "BOUND", "LISTEN", "CONNECTING", "QUEUED", "ESTAB", "CLOSING", "CLOSED"};
  const auto i = static_cast<std::size_t>(state);
  return i < std::size(kNames) ? kNames[i] : "?";
}

void encode_scb_block(Bytes block, const ScbBlock& table, const Uuid& uuid, const Geometry& g) {
  std::ranges::fill(block, std::byte{0});
  const std::size_t room = g.scbs_a_block();
  Writer w(block.subspan(kBlockHeaderSize, room * kScbSize));
  for (std::size_t i = 0; i < std::min(room, table.scbs.size()); ++i) {
    const Scb& s = table.scbs[i];
    w.u8(static_cast<std::uint8_t>(s.state));
    w.u8(s.initiator ? 1 : 0);
    w.u16(s.local_port);
    w.u16(s.peer_port);
    w.u16(0);
    w.u32(s.index);
    w.u32(s.pid);
    w.u64(s.session);
    w.u64(s.sent);
    w.u64(s.received);
    w.u32(s.peer_slot);
    w.u32(0);
    w.u64(s.peer_incarnation);
    w.u64(s.made_ms);
    w.text(s.peer_name, 64);
  }
  BlockHeader h;
  h.magic = kScbMagic;
  h.uuid = uuid;
  h.place = g.scb_block(table.owner.slot, table.index);
  h.writer = table.owner;
  h.sequence = table.sequence;
  h.body_length = static_cast<std::uint32_t>(w.size());
  seal_block(block, h);
}

DecodedScbBlock decode_scb_block(ConstBytes block, const Uuid& uuid, const Geometry& g, Slot slot, std::uint32_t index) {
  DecodedScbBlock out;
  const OpenedBlock opened = open_block(block, kScbMagic, uuid, g.scb_block(slot, index), slot);
  out.fault = opened.fault;
  if (out.fault != BlockFault::kNone) return out;
  out.block.owner = opened.header.writer;
  out.block.sequence = opened.header.sequence;
  out.block.index = index;
  Reader r(opened.body);
  const std::size_t count = std::min<std::size_t>(g.scbs_a_block(), opened.body.size() / kScbSize);
  for (std::size_t i = 0; i < count; ++i) {
    Scb s;
    const std::uint8_t state = r.u8();
    s.initiator = (r.u8() & 1) != 0;
    s.local_port = r.u16();
    s.peer_port = r.u16();
    r.u16();
    s.index = r.u32();
    s.pid = r.u32();
    s.session = r.u64();
    s.sent = r.u64();
    s.received = r.u64();
    s.peer_slot = r.u32();
    r.u32();
    s.peer_incarnation = r.u64();
    s.made_ms = r.u64();
    s.peer_name = r.text(64);
    s.state = static_cast<ScbState>(state);
    const bool in_use = state != 0;
    const bool bad_peer = s.peer_slot != kNoSlot && s.peer_slot >= g.hosts;
    if (state > kLastScbState || (in_use && (s.index != index * g.scbs_a_block() + i || bad_peer)) ||
        (!s.peer_name.empty() && !valid_instance_name(s.peer_name))) {
      out.fault = BlockFault::kBody;
      return out;
    }
    out.block.scbs.push_back(std::move(s));
  }
  return out;
}

}  // namespace stp
