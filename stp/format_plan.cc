#include "stp/format_plan.h"

#include <fmt/format.h>

#include <cerrno>

#include "stp/size_text.h"

namespace stp {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr std::uint32_t kMostExtents = 4096;

// Each is tried with fewer of what the user left open than the one before.
struct Size {
  std::uint32_t sockets, ring_blocks, extents;
};
constexpr Size kSizes[] = {{16384, 256, 16}, {16384, 64, 16}, {16384, 32, 16}, {4096, 32, 16}, {1024, 32, 16}, {256, 32, 16}, {256, 32, 4}};

// The most extents a host with which everything still fits.
std::uint32_t most_extents(Geometry g, std::uint64_t bytes) {
  std::uint32_t low = g.extents, high = kMostExtents;
  while (low < high) {
    g.extents = low + (high - low + 1) / 2;
    if (bytes_needed(g) <= bytes)
      low = g.extents;
    else
      high = g.extents - 1;
  }
  return low;
}

}  // namespace

Result<Geometry> plan_geometry(const PlanRequest& request) {
  Geometry g;
  g.block_size = request.block_size;
  g.hosts = request.hosts.value_or(request.bytes <= 2048 * kMiB ? 8 : 16);
  g.total_blocks = UINT64_MAX / kMaxExtents;  // bounds first: they need no size
  for (const Size& size : kSizes) {
    g.sockets = request.sockets.value_or(size.sockets);
    g.ring_blocks = size.ring_blocks;
    g.extents = size.extents;
    if (auto ok = derive_geometry(g); !ok) return std::unexpected(ok.error());
    if (bytes_needed(g) > request.bytes) continue;
    g.extents = most_extents(g, request.bytes);
    g.total_blocks = request.bytes / g.block_size;
    return derive_geometry(g);
  }
  const std::uint64_t mib = (bytes_needed(g) + kMiB - 1) / kMiB;
  return fail(ENOSPC, fmt::format("{} hosts with {} sockets each need at least {} MiB, there are {}; give --size {}M or fewer --hosts{}", g.hosts,
                                  g.sockets, mib, size_text(request.bytes), mib, request.sockets ? " or --sockets" : ""));
}

}  // namespace stp
