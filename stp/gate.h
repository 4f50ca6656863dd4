// The gate: one block for each ordered pair of hosts, block [receiver][sender], overwritten in place by the
// sender. It carries level state only, so a lost or repeated write of it costs time, never meaning;
// acknowledgements live here and not in the ring, so that two full rings can not deadlock.
//
// Magic "STPGATE "; writer = sender, addressee = receiver; sequence = how often the sender wrote this gate
// in this pair of incarnations (a lower one than the highest seen is an old write that landed late).
//   body offset size  field
//        0    8  head: highest packet sequence that the sender has put into its ring for the receiver
//        8    8  ack: highest packet sequence of the receiver's ring that the sender took, all before it included
//       16    8  ack seen: highest ack of the receiver that the sender knows of (confirms the receiver's gate)
//       24    8  refused incarnation of the receiver's slot, 0 = none: final, for good
//       32    8  refused nonce
//       40    4  flags: 1 = I poll your ring, no doorbell needed; 2 = I miss an ack, write your gate again
//       44    4  held: so many of the packets acknowledged, the last, are acknowledged for room alone: of what became of them something is to be
//                 said first, which is in no packet yet
#pragma once

#include "stp/block.h"
#include "stp/geometry.h"

namespace stp {

inline constexpr std::uint64_t kGateMagic = magic("STPGATE ");

struct Gate {
  static constexpr std::uint32_t kPolling = 1;
  static constexpr std::uint32_t kWantAck = 2;
  Identity sender;
  Identity receiver;
  std::uint64_t sequence = 0;
  std::uint64_t head = 0;
  std::uint64_t ack = 0;
  std::uint64_t ack_seen = 0;
  std::uint64_t refused_incarnation = 0;
  std::uint64_t refused_nonce = 0;
  std::uint32_t flags = 0;
  std::uint32_t held = 0;
  bool operator==(const Gate&) const = default;
};

struct DecodedGate {
  BlockFault fault = BlockFault::kNone;
  Gate gate;
};

void encode_gate(Bytes block, const Gate& gate, const Uuid& uuid, const Geometry& geometry);
DecodedGate decode_gate(ConstBytes block, const Uuid& uuid, const Geometry& geometry, Slot receiver, Slot sender);

}  // namespace stp
