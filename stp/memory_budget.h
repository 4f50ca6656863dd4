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
  // The most that one user should hold while several are busy.
  std::uint64_t share() const { return share_; }
  void set_share(std::uint64_t bytes) { share_ = bytes; }
  std::uint64_t left() const { return used_ < limit_ ? limit_ - used_ : 0; }

 private:
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
  std::uint64_t share_ = UINT64_MAX;
};

}  // namespace stp
