// The port file on the disk: who has which port of this host. Indexed by port number, so that one block read
// answers for one port. Written behind like the SCB table, and like it believed only under the lease's incarnation.
//
// Magic "STPPORTS"; writer = owner; sequence = how often this block was written. Body: 8 bytes a port,
// (block size - 128) / 8 a block; port = block index * that + position.
//   offset size  field
//        0    1  state: 0 free, 1 bound, 2 listening    1 3 reserved    4 4 SCB number
#pragma once

#include <vector>

#include "stp/block.h"
#include "stp/geometry.h"

namespace stp {

inline constexpr std::uint64_t kPortMagic = magic("STPPORTS");

enum class PortState : std::uint8_t { kFree = 0, kBound = 1, kListening = 2 };

struct PortEntry {
  PortState state = PortState::kFree;
  std::uint32_t scb = 0;
  bool operator==(const PortEntry&) const = default;
};

struct PortBlock {
  Identity owner;
  std::uint64_t sequence = 0;
  std::uint32_t index = 0;
  std::vector<PortEntry> ports;  // ports_a_block() of them (fewer count as free)
};

struct DecodedPortBlock {
  BlockFault fault = BlockFault::kNone;
  PortBlock block;
};

void encode_port_block(Bytes block, const PortBlock& ports, const Uuid& uuid, const Geometry& geometry);
DecodedPortBlock decode_port_block(ConstBytes block, const Uuid& uuid, const Geometry& geometry, Slot slot, std::uint32_t index);

}  // namespace stp
