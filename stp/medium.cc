#include "stp/medium.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace stp {
namespace {
constexpr std::size_t kHugePageBytes = 2u << 20;

// Aligned memory that was never touched: only then does the kernel back it with one page at the first touch. Null where there is none.
std::shared_ptr<std::byte> map_huge_page() {
  void* memory = ::mmap(nullptr, 2 * kHugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(memory);
  const std::size_t before = (kHugePageBytes - reinterpret_cast<std::uintptr_t>(begin) % kHugePageBytes) % kHugePageBytes;
  if (before > 0) ::munmap(begin, before);
  ::munmap(begin + before + kHugePageBytes, kHugePageBytes - before);
  std::byte* const page = begin + before;
  ::madvise(page, kHugePageBytes, MADV_HUGEPAGE);  // a wish: without huge pages these are buffers like others
  return {page, [](std::byte* p) { ::munmap(p, kHugePageBytes); }};
}
}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t size) : size_((size + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment) {
  constexpr std::align_val_t kAlignment{kBufferAlignment};
  data_.reset(static_cast<std::byte*>(::operator new(size_, kAlignment)), [](std::byte* p) { ::operator delete(p, kAlignment); });
  std::memset(data_.get(), 0, size_);
}

std::vector<AlignedBuffer> AlignedBuffer::of_huge_page(std::size_t size) {
  const std::shared_ptr<std::byte> page = map_huge_page();
  std::vector<AlignedBuffer> out(kHugePageBytes / size);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!page) {
      out[i] = AlignedBuffer(size);
      continue;
    }
    out[i].data_ = std::shared_ptr<std::byte>(page, page.get() + i * size);
    out[i].size_ = size;
  }
  return out;
}

}  // namespace stp
