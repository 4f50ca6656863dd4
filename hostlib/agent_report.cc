// What the agent tells of itself: counters, and a list of its sockets.

#include <algorithm>
#include <cstring>

#include "hostlib/agent.h"

namespace stp::host {
namespace {

constexpr std::size_t kMostRows = kMostTail / sizeof(AgentSocketRow);

AgentSocketRow::State state_of(const AgentSocket& socket) {
  using State = AgentSocketRow::State;
  if (socket.closing) return State::kClosing;
  if (socket.listening) return State::kListening;
  if (socket.over) return State::kOver;
  if (socket.connected) return State::kEstablished;
  if (socket.connecting) return State::kConnecting;
  return socket.port != 0 ? State::kBound : State::kUnbound;
}

}  // namespace

AgentStats Agent::stats() {
  std::lock_guard lock(mutex_);
  return stats_now();
}

AgentStats Agent::stats_now() const {
  AgentStats stats{.agent = counters_, .engine = host_->counters()};
  stats.agent.programs = programs_.size();
  stats.agent.sockets = sockets_.size();
  return stats;
}

AgentSocketRow Agent::row_of(AgentSocket& socket, const AgentProgram& asking) {
  AgentSocketRow row;
  row.number = socket.number;
  row.scb = kNoScb;
  row.state = given_.contains(socket.number) ? AgentSocketRow::State::kGiven : state_of(socket);
  row.port = socket.port;
  row.peer_port = socket.peer_port;
  row.local = socket.local ? 1 : 0;
  std::memcpy(row.peer_host, socket.peer_host.data(), std::min(socket.peer_host.size(), sizeof row.peer_host - 1));
  const ShadowSide& side = socket.program_side();
  row.sent = side.tail.load(std::memory_order_relaxed);
  row.received = side.head.load(std::memory_order_relaxed);
  const std::uint64_t ring = socket.end.memory()->ring_bytes();
  row.receive_queue = std::min(socket.end.unread(), ring);
  row.send_queue = socket.unmoved();
  if (socket.engine_id != 0) {
    if (const auto info = host_->engine().info(socket.engine_id)) {
      row.scb = info->scb;
      if (!socket.local) {
        row.receive_queue += info->readable_bytes;
        row.send_queue += info->unacknowledged_bytes;
      }
    }
  }
  if (socket.listening) {
    row.receive_queue = socket.program_side().queued.load(std::memory_order_relaxed);
    row.send_queue = socket.backlog;
    row.sent = row.received = 0;
  }
  if (asking.user() != 0 && asking.user() != socket.user) {
    std::fill(std::begin(row.pids), std::end(row.pids), AgentSocketRow::kHidden);
    return row;
  }
  row.user = socket.user;
  std::size_t n = 0;
  for (const AgentSocket::Holder& held : socket.holders)
    if (const auto program = programs_.find(held.program); program != programs_.end() && n < std::size(row.pids))
      row.pids[n++] = static_cast<std::uint32_t>(program->second->pid());
  return row;
}

std::vector<std::byte> Agent::list_sockets(const AgentProgram& asking, std::uint32_t first, AgentAnswer& answer) {
  std::vector<std::uint32_t> numbers;
  for (const auto& [number, socket] : sockets_)
    if (number >= first) numbers.push_back(number);
  const std::size_t count = std::min(numbers.size(), kMostRows);
  std::ranges::partial_sort(numbers, numbers.begin() + static_cast<std::ptrdiff_t>(std::min(numbers.size(), count + 1)));
  if (count < numbers.size()) answer.socket = numbers[count];
  std::vector<std::byte> out(count * sizeof(AgentSocketRow));
  for (std::size_t i = 0; i < count; ++i) {
    const AgentSocketRow row = row_of(*sockets_.at(numbers[i]), asking);
    std::memcpy(out.data() + i * sizeof row, &row, sizeof row);
  }
  return out;
}

}  // namespace stp::host
