// What an agent counts, as it tells it to `stp stats`. Fixed fields in native byte order, part of the agent's protocol.
#pragma once

#include <cstdint>
#include <type_traits>

#include "stp/engine.h"

namespace stp::host {

struct AgentCounters {
  std::uint64_t programs = 0, sockets = 0;  // now
  // Since the agent began.
  std::uint64_t programs_served = 0, sockets_opened = 0, connects = 0, local_connects = 0, accepts = 0, sockets_handed_over = 0;
  std::uint64_t bytes_sent = 0, bytes_received = 0;  // through the storage
  std::uint64_t refused_requests = 0;
};

struct AgentStats {
  AgentCounters agent;
  EngineCounters engine;
};
static_assert(std::is_trivially_copyable_v<AgentStats> && sizeof(AgentStats) % sizeof(std::uint64_t) == 0);

}  // namespace stp::host
