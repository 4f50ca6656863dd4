#include "stp/geometry.h"

#include <fmt/format.h>

#include <bit>
#include <cerrno>

namespace stp {
namespace {

constexpr std::uint64_t kAreaAlignment = 1024 * 1024;

std::uint64_t round_up(std::uint64_t v, std::uint64_t unit) { return (v + unit - 1) / unit * unit; }

Result<void> check_bounds(const Geometry& g) {
  auto bad = [](const char* what, std::uint64_t v, std::uint64_t low, std::uint64_t high) {
    return fail(EINVAL, fmt::format("{} is {}, must be {} to {}", what, v, low, high));
  };
  if (g.block_size < 4096 || g.block_size > 65536 || !std::has_single_bit(g.block_size))
    return fail(EINVAL, fmt::format("block size is {}, must be 4096, 8192, 16384, 32768 or 65536", g.block_size));
  if (g.hosts < 2 || g.hosts > kMaxHosts) return bad("number of hosts", g.hosts, 2, kMaxHosts);
  if (g.sockets < 16 || g.sockets > kMaxSockets) return bad("number of sockets a host", g.sockets, 16, kMaxSockets);
  if (g.ring_blocks < 16 || g.ring_blocks > kMaxRingBlocks || !std::has_single_bit(g.ring_blocks))
    return fail(EINVAL, fmt::format("ring length is {} packets, must be a power of two, 16 to {}", g.ring_blocks, kMaxRingBlocks));
  if (g.extents < 4 || g.extents > kMaxExtents) return bad("number of extents a host", g.extents, 4, kMaxExtents);
  return {};
}

void place_regions(Geometry& g) {
  g.extent_blocks = kExtentBytes / g.block_size;
  g.scb_blocks = (g.sockets + g.scbs_a_block() - 1) / g.scbs_a_block();
  g.port_blocks = (kPorts + g.ports_a_block() - 1) / g.ports_a_block();
  g.lease_first = 1;
  g.gate_first = g.lease_first + g.hosts;
  const std::uint64_t unit = kAreaAlignment / g.block_size;
  g.area_first = round_up(g.gate_first + static_cast<std::uint64_t>(g.hosts) * g.hosts, unit);
  g.ports_at = g.scb_blocks;
  g.rings_at = g.ports_at + g.port_blocks;
  // Extents begin on a boundary of their own size: a device moves them in whole pieces.
  g.cache_at = round_up(g.rings_at + static_cast<std::uint64_t>(g.hosts) * g.ring_blocks, g.extent_blocks);
  g.area_blocks = round_up(g.cache_at + static_cast<std::uint64_t>(g.extents) * g.extent_blocks, unit);
}

std::uint64_t blocks_needed(const Geometry& g) { return g.area_first + g.hosts * g.area_blocks + 1; }

}  // namespace

Result<Geometry> derive_geometry(Geometry g) {
  if (auto ok = check_bounds(g); !ok) return std::unexpected(ok.error());
  place_regions(g);
  const std::uint64_t need = blocks_needed(g);
  if (g.total_blocks < need)
    return fail(ENOSPC, fmt::format("{} hosts with {} sockets each need {} bytes ({} MiB), there are {} bytes", g.hosts, g.sockets,
                                    need * g.block_size, (need * g.block_size + 1048575) / 1048576, g.total_bytes()));
  return g;
}

bool Geometry::describes(std::uint64_t first, std::uint64_t blocks) const {
  if (blocks == 0 || first >= total_blocks || blocks > total_blocks - first) return false;
  if (first == superblock_copy()) return true;
  if (first < area_first) return first + blocks <= gate_first + std::uint64_t{hosts} * hosts;
  const std::uint64_t in_area = (first - area_first) % area_blocks;
  return first < area_first + hosts * area_blocks && in_area + blocks <= rings_at;
}

std::uint64_t bytes_needed(Geometry g) {
  place_regions(g);
  return blocks_needed(g) * g.block_size;
}

}  // namespace stp
