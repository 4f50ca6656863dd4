// Aligned buffers in powers of two from 4 KiB to 256 KiB, last in first out so that what is used next is hot in the cache.
#pragma once

#include <array>
#include <vector>

#include "stp/medium.h"

namespace stp {

class BufferPool {
 public:
  static constexpr std::size_t kSmallest = 4096;
  static constexpr std::size_t kLargest = 256 * 1024;

  // At least `size` bytes (at most kLargest), contents undefined.
  AlignedBuffer take(std::size_t size);
  void give_back(AlignedBuffer buffer);

 private:
  static constexpr std::size_t kClasses = 7;
  static constexpr std::size_t kMostCached = 32u << 20;
  static std::size_t class_of(std::size_t size);
  std::array<std::vector<AlignedBuffer>, kClasses> free_;
  std::size_t cached_ = 0;
};

}  // namespace stp
