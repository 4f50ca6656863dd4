#include "stp/ring_sender.h"

#include <algorithm>
#include <cstring>

#include "stp/plant.h"

namespace stp {

void RingSender::start(const Identity& self, const Identity& peer) {
  self_ = self;
  peer_ = peer;
  open_ = true;
  next_ = 1;
  acked_ = 0;
  stuck_for_ = 0;
  timeout_ = kFirstTimeout;
  writing_.assign(places(), false);
}

Bytes RingSender::packet(std::uint64_t sequence) const {
  const std::size_t size = core_.geometry().block_size;
  return {ring_.data() + index(sequence) * size, size};
}

bool RingSender::place_free(std::uint64_t sequence) const {
  if (planted(Plant::kReuseBeforeReaped)) return sequence <= acked_ + places();
  return sequence <= acked_ + places() && !writing_[index(sequence)];
}

bool RingSender::pump(MessageSource& source, bool prompt) {
  bool submitted = false;
  if (!ring_) ring_ = AlignedBuffer(static_cast<std::size_t>(places()) * core_.geometry().block_size);
  while (open_ && core_.may_write && writes_in_flight_ < kWriteDepth && source.has_messages()) {
    const std::uint64_t first = next_;
    std::uint32_t count = 0;
    while (count < kMostPacketsAWrite && place_free(next_) && index(next_) == index(first) + count && source.has_messages()) {
      PacketBuilder builder(packet(next_));
      source.fill(builder, next_);
      if (builder.empty()) break;
      builder.seal(self_, peer_, next_, source.ack_to_publish(), core_.uuid(), core_.geometry());
      if (all_acked()) waiting_since_ = core_.now;
      ++next_;
      ++count;
    }
    if (count == 0) break;
    core_.counters.packets_sent += count;
    last_write_ = core_.now;
    write(first, count, prompt && count == 1 && first == acked_ + 1);
    submitted = true;
  }
  return submitted;
}

void RingSender::write(std::uint64_t first, std::uint32_t count, bool prompt) {
  for (std::uint32_t i = 0; i < count; ++i) writing_[index(first + i)] = true;
  ++writes_in_flight_;
  const std::uint64_t place = core_.geometry().packet(self_.slot, peer_slot_, first);
  // An error needs nothing here: the packet stays unacknowledged, is read back and written again.
  auto written = [this, first, count](int) {
    for (std::uint32_t i = 0; i < count; ++i) writing_[index(first + i)] = false;
    --writes_in_flight_;
    last_landed_ = core_.now;
  };
  if (prompt)
    core_.io.write_promptly(place, count, packet(first).data(), std::move(written));
  else
    core_.io.write(place, count, packet(first).data(), std::move(written));
}

bool RingSender::on_ack(std::uint64_t ack) {
  if (ack >= next_) return false;
  if (ack <= acked_) return true;
  acked_ = ack;
  waiting_since_ = core_.now;
  timeout_ = kFirstTimeout;
  stuck_for_ = 0;
  return true;
}

bool RingSender::check_timeout() {
  if (!open_ || all_acked() || !core_.may_write || core_.now - waiting_since_ < timeout_) return false;
  const Nanos waited = timeout_;
  waiting_since_ = core_.now;
  timeout_ = std::min(timeout_ * 2, kLongestTimeout);
  if (writes_in_flight_ == 0 && !rechecking_ && !planted(Plant::kNoRecheck)) recheck(waited);
  return true;
}

Nanos RingSender::next_deadline() const { return !open_ || all_acked() ? kNever : waiting_since_ + timeout_; }

void RingSender::recheck(Nanos waited) {
  const std::uint64_t first = acked_ + 1;
  std::uint64_t count = std::min<std::uint64_t>(kMostPacketsAWrite, head() - acked_);
  count = std::min<std::uint64_t>(count, places() - index(first));
  if (!recheck_buffer_) recheck_buffer_ = AlignedBuffer(kMostPacketsAWrite * static_cast<std::size_t>(core_.geometry().block_size));
  rechecking_ = true;
  const auto blocks = static_cast<std::uint32_t>(count);
  core_.io.read(core_.geometry().packet(self_.slot, peer_slot_, first), blocks, recheck_buffer_.data(),
                [this, first, blocks, waited, self = self_, peer = peer_](int error) {
                  rechecking_ = false;
                  if (error == 0 && open_ && self == self_ && peer == peer_ && core_.may_write) on_rechecked(first, blocks, waited);
                });
}

void RingSender::on_rechecked(std::uint64_t first, std::uint32_t count, Nanos waited) {
  const std::size_t block = core_.geometry().block_size;
  bool all_there = true;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t sequence = first + i;
    if (sequence <= acked_ || writing_[index(sequence)]) continue;
    const Bytes mine = packet(sequence);
    if (std::memcmp(mine.data(), recheck_buffer_.data() + i * block, block) == 0) continue;
    all_there = false;
    ++core_.counters.packets_rewritten;
    write(sequence, 1);
  }
  if (all_there && first == acked_ + 1) stuck_for_ += waited;
}

}  // namespace stp
