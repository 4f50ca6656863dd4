#include "tests/sim/sim_loans.h"

#include <algorithm>

#include "tests/sim/sim_streams.h"

namespace stp::sim {
namespace {
constexpr std::size_t kLeastLent = 32 * 1024;
}

void SimLender::write(std::size_t most, const std::function<void(std::uint64_t, Bytes)>& fill) {
  std::size_t left = std::min<std::size_t>(most, SimRing::kBytes - static_cast<std::size_t>(written_ - free_));
  while (left > 0) {
    const Bytes piece = ring_.piece(written_, left);
    fill(written_, piece);
    written_ += piece.size();
    left -= piece.size();
  }
}

SocketResult<std::size_t> SimLender::move(Engine& engine, SocketId socket, std::size_t most, Nanos now) {
  take_back(engine, socket);
  if (moved_ == written_) return std::size_t{0};
  const ConstBytes piece = ring_.piece(moved_, std::min<std::size_t>(most, static_cast<std::size_t>(written_ - moved_)));
  const bool lends = !manners_.copies_little || piece.size() >= kLeastLent || engine.lent(socket) > 0;
  auto taken = lends ? engine.send_lent(socket, piece, {.keeper = ring_.keeper(), .most_bytes = SIZE_MAX}, now) : engine.send(socket, piece, now);
  if (taken) moved_ += *taken;
  take_back(engine, socket);
  if (manners_.lies) lie();
  return taken;
}

// Now and then, in the middle of what is lent.
void SimLender::lie() {
  const std::uint64_t at = free_ + (moved_ - free_) / 2;
  if (++moves_ % 3 != 0 || at == moved_ || at < kStreamHeader) return;
  std::byte& one = *ring_.at(at);
  one = ~one;
}

void SimLender::take_back(const Engine& engine, SocketId socket) {
  const std::uint64_t free = moved_ - engine.lent(socket);
  ring_.spoil(free_, free);
  free_ = std::max(free_, free);
}

std::byte* SimLanding::Room::place(std::uint64_t ahead, std::size_t bytes) {
  const std::uint64_t free = SimRing::kBytes - (tail - head);
  if (ahead > free || bytes > free - ahead) return nullptr;
  const Bytes piece = ring.piece(tail + ahead, bytes);
  return (tail + ahead) % kBufferAlignment == 0 && piece.size() == bytes ? piece.data() : nullptr;
}

Bytes SimLanding::next(std::size_t most) const {
  return room_->ring.piece(room_->tail, std::min<std::size_t>(most, SimRing::kBytes - static_cast<std::size_t>(unread())));
}

void SimLanding::received(std::size_t bytes) {
  for (const std::uint64_t end = room_->tail + bytes; room_->tail < end; ++room_->tail) delivered_[room_->tail % SimRing::kBytes] = *room_->ring.at(room_->tail);
}

bool SimLanding::read(std::size_t most) {
  const std::uint64_t end = room_->head + std::min<std::uint64_t>(most, unread());
  for (std::uint64_t at = room_->head; at < end; ++at)
    if (*room_->ring.at(at) != delivered_[at % SimRing::kBytes]) return false;
  room_->ring.spoil(room_->head, end);
  room_->head = end;
  return true;
}

}  // namespace stp::sim
