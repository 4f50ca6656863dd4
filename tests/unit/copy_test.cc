#include "stp/copy.h"

#include <gtest/gtest.h>

#include <vector>

#include "stp/medium.h"

namespace stp {
namespace {

// What may differ is the way, and that by where both lie in their pages.
TEST(Copy, is_exact_and_touches_nothing_else_wherever_both_lie) {
  constexpr std::size_t kLargest = 70'000, kMargin = 8192;
  AlignedBuffer source(kLargest + 2 * kMargin), target(kLargest + 2 * kMargin);
  for (std::size_t i = 0; i < kLargest + 2 * kMargin; ++i) source.data()[i] = static_cast<std::byte>(i * 7 + i / 251);
  for (const std::size_t size : {0u, 1u, 63u, 64u, 65u, 2047u, 2048u, 2049u, 4096u, 4100u, 65'536u, 69'999u})
    for (const std::size_t from : {0u, 5u, 4095u})
      for (const std::size_t ahead : {0u, 1u, 2u, 8u, 15u, 16u, 17u, 63u, 64u, 2000u, 4095u}) {
        const std::size_t to = from + ahead;
        std::fill_n(target.data(), kLargest + 2 * kMargin, std::byte{0xee});
        copy_bytes(target.data() + to, {source.data() + from, size});
        ASSERT_TRUE(std::equal(source.data() + from, source.data() + from + size, target.data() + to)) << size << ' ' << from << ' ' << ahead;
        ASSERT_TRUE(std::all_of(target.data(), target.data() + to, [](std::byte b) { return b == std::byte{0xee}; })) << size << ' ' << from << ' ' << ahead;
        ASSERT_TRUE(std::all_of(target.data() + to + size, target.data() + kLargest + 2 * kMargin, [](std::byte b) { return b == std::byte{0xee}; }))
            << size << ' ' << from << ' ' << ahead;
      }
}

}  // namespace
}  // namespace stp
