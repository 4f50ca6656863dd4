// A shared allowance of bytes. Nobody who asks for no more than the floor is ever refused.
#pragma once

#include <algorithm>
#include <cstdint>

namespace stp {

class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit) {}
  bool take(std::uint64_t bytes) {
    if (used_ + bytes > limit_) return false;
    used_ += bytes;
    return true;
  }
  void take_always(std::uint64_t bytes) { used_ += bytes; }
  void give_back(std::uint64_t bytes) { used_ -= std::min(bytes, used_); }
  std::uint64_t used() const { return used_; }
  // The most that one user, who holds `mine`, should hold while several are busy: a share as it was last set, and at first no more than
  // the others who move leave of the working set (what all of them together need), but never less than the least.
  std::uint64_t share(std::uint64_t mine) const {
    const std::uint64_t others = used_ - std::min(mine + resting_, used_);
    if (others < least_share_) return share_;
    return std::min(share_, std::max(least_share_, working_set_ - std::min(others, working_set_)));
  }
  // What it takes to be as fast as the device while nobody is in the way, or one's part of it.
  std::uint64_t enough(std::uint64_t mine) const { return std::min(share(mine), working_set_); }
  void set_working_set(std::uint64_t all, std::uint64_t least_share) {
    working_set_ = all;
    least_share_ = least_share;
  }
  // `resting`: what those hold who do not move. They keep nobody else from moving.
  void set_share(std::uint64_t bytes, std::uint64_t resting) {
    share_ = bytes;
    resting_ = resting;
  }
  std::uint64_t left() const { return used_ < limit_ ? limit_ - used_ : 0; }

 private:
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
  std::uint64_t share_ = UINT64_MAX;
  std::uint64_t resting_ = 0;
  std::uint64_t working_set_ = UINT64_MAX;
  std::uint64_t least_share_ = UINT64_MAX;
};

}  // namespace stp
