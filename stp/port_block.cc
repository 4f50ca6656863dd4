#include "stp/port_block.h"

#include <algorithm>

namespace stp {
namespace {
constexpr std::size_t kPortSize = 8;
}

void encode_port_block(Bytes block, const PortBlock& ports, const Uuid& uuid, const Geometry& g) {
  std::ranges::fill(block, std::byte{0});
  const std::size_t room = g.ports_a_block();
  Writer w(block.subspan(kBlockHeaderSize, room * kPortSize));
  for (std::size_t i = 0; i < std::min(room, ports.ports.size()); ++i) {
    w.u8(static_cast<std::uint8_t>(ports.ports[i].state));
    w.zeros(3);
    w.u32(ports.ports[i].scb);
  }
  BlockHeader h;
  h.magic = kPortMagic;
  h.uuid = uuid;
  h.place = g.port_block(ports.owner.slot, ports.index);
  h.writer = ports.owner;
  h.sequence = ports.sequence;
  h.body_length = static_cast<std::uint32_t>(w.size());
  seal_block(block, h);
}

DecodedPortBlock decode_port_block(ConstBytes block, const Uuid& uuid, const Geometry& g, Slot slot, std::uint32_t index) {
  DecodedPortBlock out;
  const OpenedBlock opened = open_block(block, kPortMagic, uuid, g.port_block(slot, index), slot);
  out.fault = opened.fault;
  if (out.fault != BlockFault::kNone) return out;
  out.block.owner = opened.header.writer;
  out.block.sequence = opened.header.sequence;
  out.block.index = index;
  Reader r(opened.body);
  const std::size_t count = std::min<std::size_t>(g.ports_a_block(), opened.body.size() / kPortSize);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t state = r.u8();
    r.skip(3);
    const std::uint32_t scb = r.u32();
    if (state > 2 || (state != 0 && scb >= g.sockets)) {
      out.fault = BlockFault::kBody;
      return out;
    }
    out.block.ports.push_back({static_cast<PortState>(state), scb});
  }
  return out;
}

}  // namespace stp
