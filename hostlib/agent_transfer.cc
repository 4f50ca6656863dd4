#include "hostlib/agent_transfer.h"

#include <algorithm>
#include <cerrno>

#include "stp/system.h"

namespace stp::host {

void end_with(AgentSocket& socket, const SocketError& error) {
  socket.over = true;
  socket.program_side().error.store(static_cast<std::uint32_t>(error.code), std::memory_order_relaxed);
  socket.program_side().reason.store(static_cast<std::uint32_t>(error.reason), std::memory_order_relaxed);
  socket.program_side().state.fetch_or(ShadowSide::kOver, std::memory_order_release);
}

Moved move_out(Engine& engine, AgentSocket& socket) {
  Moved moved;
  const Nanos now = boottime_now();
  while (moved.bytes < kMoveAtOnce) {
    const ConstBytes piece = socket.end.next_readable();
    if (piece.empty()) break;
    const auto taken = engine.send(socket.engine_id, piece.first(std::min(piece.size(), kMoveAtOnce)), now);
    if (!taken) {
      moved.stopped = true;
      if (taken.error().code != EAGAIN) moved.error = taken.error();
      break;
    }
    socket.end.take(*taken);
    moved.bytes += *taken;
  }
  return moved;
}

Moved move_in(Engine& engine, AgentSocket& socket) {
  Moved moved;
  const Nanos now = boottime_now();
  while (moved.bytes < kMoveAtOnce && !socket.end_given) {
    const Bytes room = socket.end.next_room();
    if (room.empty()) break;
    const auto given = engine.receive(socket.engine_id, room, false, now);
    if (!given) {
      moved.stopped = true;
      if (given.error().code != EAGAIN) moved.error = given.error();
      break;
    }
    if (*given == 0) {
      socket.end.end(ShadowSide::kEnd);
      socket.end_given = true;
      break;
    }
    socket.end.publish(*given);
    moved.bytes += *given;
  }
  moved.stopped |= socket.end_given;
  return moved;
}

}  // namespace stp::host
