#include "stp/cache_region.h"

#include <algorithm>

namespace stp {

CacheRegion::CacheRegion(Core& core)
    : core_(core),
      reserve_(std::max(1u, core.geometry().extents / (4 * core.geometry().hosts))),
      used_(core.geometry().hosts, 0),
      alive_(core.geometry().hosts, false) {
  // Every second one first: neighbours that are written at once, or read at once, would be merged into one large request, and land
  // together where they could have followed one another. Last in, first out keeps them apart while no more than half are in use.
  const std::uint32_t extents = core.geometry().extents;
  for (const std::uint32_t odd : {1u, 0u})
    for (std::uint32_t i = extents; i > 0; --i)
      if ((i - 1) % 2 == odd) free_.push_back(i - 1);
}

std::uint32_t CacheRegion::take(Slot peer) {
  std::uint32_t kept = 0;
  for (Slot s = 0; s < alive_.size(); ++s)
    if (s != peer && alive_[s] && used_[s] < reserve_) kept += reserve_ - used_[s];
  const bool within_reserve = used_[peer] < reserve_;
  if (free_.empty() || (!within_reserve && free_.size() <= kept)) {
    waited_ = true;
    return kNone;
  }
  const std::uint32_t extent = free_.back();
  free_.pop_back();
  ++used_[peer];
  return extent;
}

void CacheRegion::give_back(Slot peer, std::uint32_t extent) {
  --used_[peer];
  free_.push_back(extent);
}

std::uint32_t extent_of_block(const Geometry& g, Slot owner, std::uint64_t block) {
  const std::uint64_t first = g.extent(owner, 0);
  if (block < first || (block - first) % g.extent_blocks != 0) return CacheRegion::kNone;
  const std::uint64_t index = (block - first) / g.extent_blocks;
  return index < g.extents ? static_cast<std::uint32_t>(index) : CacheRegion::kNone;
}

}  // namespace stp
