#include "stp/gate.h"

#include <algorithm>

namespace stp {
namespace {
constexpr std::size_t kGateBody = 48;
static_assert(kBlockHeaderSize + kGateBody <= 512, "a gate must not tear on a 512-byte disk");
}  // namespace

void encode_gate(Bytes block, const Gate& gate, const Uuid& uuid, const Geometry& g) {
  std::ranges::fill(block, std::byte{0});
  Writer w(block.subspan(kBlockHeaderSize, kGateBody));
  w.u64(gate.head);
  w.u64(gate.ack);
  w.u64(gate.ack_seen);
  w.u64(gate.refused_incarnation);
  w.u64(gate.refused_nonce);
  w.u32(gate.flags);
  w.u32(gate.held);
  BlockHeader h;
  h.magic = kGateMagic;
  h.uuid = uuid;
  h.place = g.gate(gate.receiver.slot, gate.sender.slot);
  h.writer = gate.sender;
  h.addressee = gate.receiver;
  h.sequence = gate.sequence;
  h.body_length = kGateBody;
  seal_block(block, h);
}

DecodedGate decode_gate(ConstBytes block, const Uuid& uuid, const Geometry& g, Slot receiver, Slot sender) {
  DecodedGate out;
  const OpenedBlock opened = open_block(block, kGateMagic, uuid, g.gate(receiver, sender), sender);
  out.fault = opened.fault;
  if (out.fault != BlockFault::kNone) return out;
  Reader r(opened.body);
  Gate& gate = out.gate;
  gate.sender = opened.header.writer;
  gate.receiver = opened.header.addressee;
  gate.sequence = opened.header.sequence;
  gate.head = r.u64();
  gate.ack = r.u64();
  gate.ack_seen = r.u64();
  gate.refused_incarnation = r.u64();
  gate.refused_nonce = r.u64();
  gate.flags = r.u32();
  gate.held = r.u32();
  if (r.bad() || gate.receiver.slot != receiver) out.fault = BlockFault::kBody;
  return out;
}

}  // namespace stp
