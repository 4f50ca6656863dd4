#include "stp/gate_row.h"

#include <algorithm>

namespace stp {

void GateRow::poll(Slot slots_in_use, bool eager) {
  const Geometry& g = core_.geometry();
  const auto most = static_cast<Slot>(kMaxRequestBytes / g.block_size);
  const Slot slots = std::min(std::max<Slot>(slots_in_use, core_.self.slot + 1), g.hosts);
  core_.gate_period = core_.config.poll_max * ((slots + kSlotsAPeriod - 1) / kSlotsAPeriod);
  if (!eager) {
    eager_since_ = 0;
  } else {
    if (eager_since_ == 0) eager_since_ = core_.now;
    const Nanos pause = std::clamp((core_.now - eager_since_) / 8, 100 * kMicrosecond, core_.config.poll_max);
    next_look_ = std::min(next_look_, last_look_ + pause);
  }
  if (reading_ || core_.now < next_look_) return;
  if (!buffer_) buffer_ = AlignedBuffer(static_cast<std::size_t>(std::min(g.hosts, most)) * g.block_size);
  reading_ = true;
  last_look_ = core_.now;
  // One request where the row fits in one; with large blocks and many hosts it goes round.
  const Slot first = next_first_ < slots ? next_first_ : 0;
  const Slot count = std::min(most, slots - first);
  next_first_ = first + count;
  next_look_ = core_.now + core_.gate_period;
  const Identity self = core_.self;
  core_.io.read(g.gate(self.slot, first), count, buffer_.data(), [this, first, count, self, began = core_.now](int error) {
    reading_ = false;
    if (self == core_.self) on_read(first, count, began, error);
  });
}

void GateRow::on_read(Slot first, Slot count, Nanos began, int error) {
  if (error != 0) return;
  looked_.resize(core_.geometry().hosts);
  std::fill_n(looked_.begin() + first, count, began);
  const std::size_t size = core_.geometry().block_size;
  for (Slot i = 0; i < count; ++i) {
    const Slot sender = first + i;
    const ConstBytes block{buffer_.data() + i * size, size};
    const DecodedGate decoded = decode_gate(block, core_.uuid(), core_.geometry(), core_.self.slot, sender);
    if (decoded.fault == BlockFault::kNone)
      on_gate_(sender, decoded.gate);
    else if (decoded.fault != BlockFault::kEmpty)
      ++core_.counters.damaged_gates;
  }
}

}  // namespace stp
