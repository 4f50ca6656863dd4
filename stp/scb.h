// The STP socket table on the disk: socket control blocks (SCB), packed, in the owner's host area.
// Written behind by up to a second, so that any host can list every socket; nothing recovers from it. A block
// whose incarnation is not that of the slot's lease is of an earlier life and means nothing.
//
// Magic "STPSCBTB"; writer = owner; sequence = how often this block was written. Body: 128 bytes an SCB,
// (block size - 128) / 128 a block; SCB number = block index * that + position.
//   offset size  field
//        0    1  state (ScbState)     1 1 flags: 1 initiator    2 2 local port    4 2 peer port    6 2 reserved
//        8    4  SCB number          12 4 process id (display only)
//       16    8  session counter     24 8 bytes sent           32 8 bytes received
//       40    4  peer slot, 0xffffffff none   44 4 reserved    48 8 peer incarnation
//       56    8  made at, milliseconds since 1970 (display only)
//       64   64  peer host name, NUL-padded
#pragma once

#include <string>
#include <vector>

#include "stp/block.h"
#include "stp/geometry.h"

namespace stp {

inline constexpr std::uint64_t kScbMagic = magic("STPSCBTB");

enum class ScbState : std::uint8_t { kFree = 0, kUnbound, kBound, kListening, kConnecting, kQueued, kEstablished, kClosing, kClosed };
inline constexpr std::uint8_t kLastScbState = 8;
std::string_view to_string(ScbState state);  // FREE UNBOUND BOUND LISTEN CONNECTING QUEUED ESTAB CLOSING CLOSED

struct Scb {
  ScbState state = ScbState::kFree;
  bool initiator = false;
  std::uint16_t local_port = 0;
  std::uint16_t peer_port = 0;
  std::uint32_t index = 0;
  std::uint32_t pid = 0;
  std::uint64_t session = 0;
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  Slot peer_slot = kNoSlot;
  std::uint64_t peer_incarnation = 0;
  std::uint64_t made_ms = 0;
  std::string peer_name;
  bool operator==(const Scb&) const = default;
};

struct ScbBlock {
  Identity owner;
  std::uint64_t sequence = 0;
  std::uint32_t index = 0;  // of the block in the table
  std::vector<Scb> scbs;    // scbs_a_block() of them (fewer count as free)
};

struct DecodedScbBlock {
  BlockFault fault = BlockFault::kNone;
  ScbBlock block;
};

void encode_scb_block(Bytes block, const ScbBlock& table, const Uuid& uuid, const Geometry& geometry);
DecodedScbBlock decode_scb_block(ConstBytes block, const Uuid& uuid, const Geometry& geometry, Slot slot, std::uint32_t index);

}  // namespace stp
