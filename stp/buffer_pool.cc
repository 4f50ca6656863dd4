#include "stp/buffer_pool.h"

#include <utility>

namespace stp {

std::size_t BufferPool::class_of(std::size_t size) {
  std::size_t c = 0;
  while ((kSmallest << c) < size && c + 1 < kClasses) ++c;
  return c;
}

AlignedBuffer BufferPool::take(std::size_t size) {
  const std::size_t c = class_of(size);
  if (free_[c].empty()) {
    if (c + 1 < kClasses) return AlignedBuffer(kSmallest << c);
    free_[c] = AlignedBuffer::of_huge_page(kLargest);
    cached_ += free_[c].size() * kLargest;
  }
  AlignedBuffer out = std::move(free_[c].back());
  free_[c].pop_back();
  cached_ -= out.size();
  return out;
}

void BufferPool::give_back(AlignedBuffer buffer) {
  if (!buffer || cached_ + buffer.size() > kMostCached) return;
  cached_ += buffer.size();
  free_[class_of(buffer.size())].push_back(std::move(buffer));
}

}  // namespace stp
