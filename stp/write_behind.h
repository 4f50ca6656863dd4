// Tables on the disk that follow memory by up to a second: marks dirty blocks, writes each at most once at a time, a few at once.
#pragma once

#include <functional>
#include <set>

#include "stp/core.h"

namespace stp {

class WriteBehind {
 public:
  // Encodes block `index` of the table into `block` and gives its place.
  using Encode = std::function<std::uint64_t(std::uint32_t index, std::uint64_t sequence, Bytes block)>;
  WriteBehind(Core& core, Encode encode) : core_(core), encode_(std::move(encode)) {}

  void mark(std::uint32_t index);
  void clear() { dirty_.clear(); }
  void work();
  Nanos next_deadline() const { return dirty_.empty() || in_flight_ > 0 ? kNever : due_; }
  bool idle() const { return in_flight_ == 0; }

 private:
  static constexpr Nanos kDelay = 20 * kMillisecond;   // after the first mark of a quiet table
  static constexpr Nanos kPeriod = 500 * kMillisecond;  // between flushes of a busy one
  static constexpr std::size_t kDepth = 2;

  Core& core_;
  Encode encode_;
  std::set<std::uint32_t> dirty_;
  std::set<std::uint32_t> writing_;
  std::uint64_t sequence_ = 0;
  std::size_t in_flight_ = 0;
  Nanos due_ = 0;
  Nanos flushed_ = 0;
};

}  // namespace stp
