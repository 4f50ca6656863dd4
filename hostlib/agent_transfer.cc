#include "hostlib/agent_transfer.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "stp/system.h"

namespace stp::host {
namespace {

constexpr std::size_t kLeastLoan = 32 * 1024;

class RingLanding final : public Landing {
 public:
  explicit RingLanding(ShadowEnd end) : end_(std::move(end)) {}
  std::byte* place(std::uint64_t ahead, std::size_t bytes) override { return end_.place(ahead, bytes); }

 private:
  ShadowEnd end_;
};

void take_back(const Engine& engine, AgentSocket& socket) {
  const std::uint64_t lent = engine.lent(socket.engine_id);
  if (lent >= socket.lent) return;
  socket.end.take(socket.lent - lent);
  socket.lent = lent;
}

}  // namespace

void end_with(AgentSocket& socket, const SocketError& error) {
  socket.over = true;
  socket.program_side().error.store(static_cast<std::uint32_t>(error.code), std::memory_order_relaxed);
  socket.program_side().reason.store(static_cast<std::uint32_t>(error.reason), std::memory_order_relaxed);
  socket.program_side().state.fetch_or(ShadowSide::kOver, std::memory_order_release);
}

Moved move_out(Engine& engine, AgentSocket& socket, bool waits_in_line) {
  Moved moved;
  const Nanos now = boottime_now();
  take_back(engine, socket);
  if (waits_in_line) return moved;
  while (moved.bytes < kMoveAtOnce) {
    const ConstBytes piece = socket.end.next_readable(socket.lent);
    if (piece.empty()) break;
    const ConstBytes part = piece.first(std::min(piece.size(), kMoveAtOnce));
    const bool lends = (part.size() >= kLeastLoan || socket.lent > 0) && socket.end.readable_in_huge_pages();
    const auto taken = lends ? engine.send_lent(socket.engine_id, part, {socket.end.memory(), socket.end.memory()->ring_bytes()}, now) : engine.send(socket.engine_id, part, now);
    if (!taken) {
      moved.stopped = true;
      if (taken.error().code != EAGAIN) moved.error = taken.error();
      break;
    }
    if (*taken == 0) break;
    socket.lent += *taken;  // or at least what is lent lies before it
    take_back(engine, socket);
    moved.bytes += *taken;
  }
  return moved;
}

Moved move_in(Engine& engine, AgentSocket& socket) {
  Moved moved;
  const Nanos now = boottime_now();
  if (!std::exchange(socket.lands, true)) engine.land_in(socket.engine_id, std::make_shared<RingLanding>(socket.end));
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

SocketError look_unread(Engine& engine, AgentSocket& socket) {
  const auto bits = engine.ready(socket.engine_id);
  if (!bits || (*bits & Ready::kError) == 0) return {};
  std::byte nothing{};
  const auto given = engine.receive(socket.engine_id, {&nothing, 1}, true, boottime_now());
  if (!given) return given.error();
  if (*given == 0) {
    socket.end.end(ShadowSide::kEnd);
    socket.end_given = true;
  }
  return engine.take_error(socket.engine_id);
}

}  // namespace stp::host
