#include "stp/write_behind.h"

#include <algorithm>
#include <memory>

namespace stp {

void WriteBehind::mark(std::uint32_t index) {
  if (dirty_.empty()) due_ = std::max(core_.now + kDelay, flushed_ + kPeriod);
  dirty_.insert(index);
}

void WriteBehind::work() {
  if (dirty_.empty() || core_.now < due_ || !core_.may_write) return;
  for (auto it = dirty_.begin(); it != dirty_.end() && in_flight_ < kDepth;) {
    const std::uint32_t index = *it;
    if (writing_.contains(index)) {
      ++it;
      continue;
    }
    it = dirty_.erase(it);
    auto buffer = std::make_shared<AlignedBuffer>(core_.buffers.take(core_.geometry().block_size));
    const Bytes block = buffer->span().first(core_.geometry().block_size);
    const std::uint64_t place = encode_(index, ++sequence_, block);
    writing_.insert(index);
    ++in_flight_;
    core_.io.write(place, 1, buffer->data(), [this, index, buffer](int error) {
      --in_flight_;
      writing_.erase(index);
      core_.buffers.give_back(std::move(*buffer));
      if (error != 0) {
        due_ = core_.now + kPeriod;
        dirty_.insert(index);
      }
    });
  }
  if (dirty_.empty()) flushed_ = core_.now;
}

}  // namespace stp
