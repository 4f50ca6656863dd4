// How a storage of a given size is divided when it is formatted.
#pragma once

#include <cstdint>
#include <optional>

#include "stp/geometry.h"

namespace stp {

struct PlanRequest {
  std::uint64_t bytes = 0;
  std::uint32_t block_size = 4096;
  std::optional<std::uint32_t> hosts = {}, sockets = {};  // as the user said; never shrunk
};

// Default: 8 hosts up to 2 GiB, 16 above; 16,384 sockets a host; rings of 256 packets; what remains is cache region, in equal
// parts of at most 1 GiB a host. Where that does not fit, rings shrink first (to 64, 32), then sockets (to 4096, 1024, 256), then
// the cache region (from 16 to 4 extents a host). ENOSPC with the size that would do when it still does not fit.
Result<Geometry> plan_geometry(const PlanRequest& request);

}  // namespace stp
