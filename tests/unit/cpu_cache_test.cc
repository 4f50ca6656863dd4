#include "stp/cpu_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace stp {
namespace {

// Whether anything is evicted can not be seen, but no byte may change, and none outside be touched, whatever the alignment.
TEST(CpuCache, bytes_that_leave_the_caches_stay_what_they_are) {
  std::vector<std::byte> bytes(300'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  const std::vector<std::byte> before = bytes;
  for (const std::size_t begin : {0u, 1u, 63u, 64u, 4096u, 4097u})
    for (const std::size_t size : {0u, 1u, 64u, 65u, 262'144u}) evict_from_cpu_cache({bytes.data() + begin, size});
  EXPECT_EQ(bytes, before);
}

}  // namespace
}  // namespace stp
