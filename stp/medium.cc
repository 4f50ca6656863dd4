#include "stp/medium.h"

#include <cstring>
#include <new>

namespace stp {

AlignedBuffer::AlignedBuffer(std::size_t size) : size_((size + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment) {
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, size_)));
  if (!data_) throw std::bad_alloc();
  std::memset(data_.get(), 0, size_);
}

}  // namespace stp
