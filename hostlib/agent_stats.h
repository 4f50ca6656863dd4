// What an agent counts, and which sockets it has, as it tells it to `stp stats`, `stp sockets -p` and `stp top`. Fixed fields in native byte order, part of the agent's protocol.
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

inline constexpr std::uint32_t kNoScb = 0xffffffff;  // a socket that has no control block on the storage

// One socket. Counters come from memory that programs write: they are shown, and nothing else is done with them.
struct AgentSocketRow {
  enum class State : std::uint32_t { kUnbound, kBound, kListening, kConnecting, kEstablished, kClosing, kGiven, kOver };
  static constexpr std::uint32_t kHidden = 0xffffffff;  // `user` and `pids` of another user's socket, to all but root
  std::uint32_t number = 0;
  std::uint32_t scb = 0;           // or kNoScb
  State state = State::kUnbound;
  std::uint32_t user = kHidden;
  std::uint32_t pids[4] = {};      // those that have it; 0 = none
  std::uint16_t port = 0, peer_port = 0;
  std::uint32_t local = 0;         // 1: the other side is a program of the same agent
  std::uint64_t receive_queue = 0; // bytes that the program has not read; of a listener: connections that wait
  std::uint64_t send_queue = 0;    // bytes that the peer's host has not taken; of a listener: how many may wait
  std::uint64_t received = 0, sent = 0;  // by the program, since the socket was opened
  char peer_host[96] = {};
};
static_assert(std::is_trivially_copyable_v<AgentSocketRow> && sizeof(AgentSocketRow) == 40 + 32 + 96);

static_assert(std::is_trivially_copyable_v<AgentStats> && sizeof(AgentStats) % sizeof(std::uint64_t) == 0);

}  // namespace stp::host
