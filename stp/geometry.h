// Where everything lies. One rule from a few numbers in the superblock to block numbers.
//
//   block 0                    superblock
//   leases  (hosts)            one block a slot, contiguous: one read sees everybody
//   gates   (hosts x hosts)    block [receiver][sender], written by the sender; a receiver's row is contiguous
//   host areas (hosts), each aligned to 1 MiB:
//       SCB table    scb_blocks
//       port file    port_blocks
//       rings        hosts x ring_blocks   ring [receiver] of packets from this host
//       cache region extents x extent_blocks
//   last block                 copy of the superblock
#pragma once

#include <cstdint>

#include "stp/error.h"
#include "stp/identity.h"

namespace stp {

inline constexpr std::uint32_t kMaxHosts = 128;
inline constexpr std::uint32_t kMaxSockets = 1u << 20;
inline constexpr std::uint32_t kMaxRingBlocks = 4096;
inline constexpr std::uint32_t kMaxExtents = 1u << 20;
inline constexpr std::uint32_t kExtentBytes = 256 * 1024;  // the unit of the cache region
inline constexpr std::uint32_t kPorts = 65536;

struct Geometry {
  std::uint32_t block_size = 0;   // bytes, a power of two, 4096 to 65536
  std::uint32_t hosts = 0;        // slots, 2 to kMaxHosts
  std::uint32_t sockets = 0;      // SCBs a host
  std::uint32_t ring_blocks = 0;  // packets a ring, a power of two, 16 to kMaxRingBlocks
  std::uint32_t extents = 0;      // extents a host's cache region
  std::uint64_t total_blocks = 0; // the whole storage, superblock copy included

  // Derived by derive(): first blocks and sizes of the regions.
  std::uint32_t extent_blocks = 0;
  std::uint32_t scb_blocks = 0;
  std::uint32_t port_blocks = 0;
  std::uint64_t lease_first = 0;
  std::uint64_t gate_first = 0;
  std::uint64_t area_first = 0;
  std::uint64_t area_blocks = 0;  // distance from one host area to the next
  std::uint64_t ports_at = 0;     // offsets inside a host area, in blocks (the SCB table is at 0)
  std::uint64_t rings_at = 0;
  std::uint64_t cache_at = 0;

  std::uint64_t lease(Slot slot) const { return lease_first + slot; }
  std::uint64_t gate(Slot receiver, Slot sender) const {
    return gate_first + static_cast<std::uint64_t>(receiver) * hosts + sender;
  }
  std::uint64_t area(Slot slot) const { return area_first + slot * area_blocks; }
  std::uint64_t scb_block(Slot slot, std::uint32_t index) const { return area(slot) + index; }
  std::uint64_t port_block(Slot slot, std::uint32_t index) const { return area(slot) + ports_at + index; }
  std::uint64_t ring(Slot sender, Slot receiver) const {
    return area(sender) + rings_at + static_cast<std::uint64_t>(receiver) * ring_blocks;
  }
  // Sequences of packets begin at 1.
  std::uint64_t packet(Slot sender, Slot receiver, std::uint64_t sequence) const {
    return ring(sender, receiver) + (sequence - 1) % ring_blocks;
  }
  std::uint64_t extent(Slot slot, std::uint32_t index) const {
    return area(slot) + cache_at + static_cast<std::uint64_t>(index) * extent_blocks;
  }
  std::uint64_t superblock_copy() const { return total_blocks - 1; }
  // Whether all of these blocks describe: superblocks, leases, gates, SCB tables, port files. Not so rings and cache regions, which
  // hold what is said in conversations.
  bool describes(std::uint64_t first, std::uint64_t blocks) const;

  std::uint32_t scbs_a_block() const { return (block_size - 128) / 128; }
  std::uint32_t ports_a_block() const { return (block_size - 128) / 8; }
  std::uint64_t total_bytes() const { return total_blocks * block_size; }

  bool operator==(const Geometry&) const = default;
};

// Fills in the derived numbers from block_size, hosts, sockets, ring_blocks, extents and
// total_blocks. Fails (EINVAL) on numbers outside their bounds, and (ENOSPC, with the size that
// would do in the text) when the regions do not fit in total_blocks.
Result<Geometry> derive_geometry(Geometry wanted);

// Bytes that this many hosts, sockets and so on need; total_blocks is ignored.
std::uint64_t bytes_needed(Geometry wanted);

}  // namespace stp
