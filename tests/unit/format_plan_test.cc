#include "stp/format_plan.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "stp/size_text.h"

namespace stp {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TEST(FormatPlan, UsesTheDefaultsWhereTheyFit) {
  const auto g = plan_geometry({.bytes = 1024 * kMiB});
  ASSERT_TRUE(g) << g.error().text;
  EXPECT_EQ(g->hosts, 8u);
  EXPECT_EQ(g->sockets, 16384u);
  EXPECT_EQ(g->ring_blocks, 256u);
  EXPECT_EQ(g->total_bytes(), 1024 * kMiB);
  EXPECT_EQ(plan_geometry({.bytes = 4096 * kMiB})->hosts, 16u);
  EXPECT_EQ(plan_geometry({.bytes = 2048 * kMiB})->hosts, 8u);
}

TEST(FormatPlan, GivesWhatRemainsToTheCacheRegion) {
  const auto g = plan_geometry({.bytes = 1024 * kMiB});
  ASSERT_TRUE(g);
  Geometry more = *g;
  ++more.extents;
  EXPECT_GT(bytes_needed(more), 1024 * kMiB) << "one more extent a host would not fit";
  EXPECT_EQ(plan_geometry({.bytes = 1024 * 1024 * kMiB})->extents, 4096u) << "1 GiB a host is enough";
}

TEST(FormatPlan, ShrinksRingsBeforeSockets) {
  std::uint32_t ring = 256, sockets = 16384;
  for (std::uint64_t mib = 300; mib >= 26; --mib) {
    const auto g = plan_geometry({.bytes = mib * kMiB});
    ASSERT_TRUE(g) << mib << " MiB: " << g.error().text;
    EXPECT_LE(g->ring_blocks, ring);
    EXPECT_LE(g->sockets, sockets);
    EXPECT_TRUE(g->sockets == 16384 || g->ring_blocks == 32u);
    EXPECT_LE(bytes_needed(*g), mib * kMiB);
    ring = g->ring_blocks;
    sockets = g->sockets;
  }
  EXPECT_EQ(ring, 32u);
  EXPECT_EQ(sockets, 256u);
}

TEST(FormatPlan, NamesTheSizeThatWouldDo) {
  const auto g = plan_geometry({.bytes = 10 * kMiB});
  ASSERT_FALSE(g);
  EXPECT_EQ(g.error().code, ENOSPC);
  EXPECT_NE(g.error().text.find("--size 26M"), std::string::npos) << g.error().text;
  EXPECT_TRUE(plan_geometry({.bytes = 26 * kMiB})) << "what it names must do";
  EXPECT_FALSE(plan_geometry({.bytes = 25 * kMiB}));
}

TEST(FormatPlan, NeverShrinksWhatWasAskedFor) {
  const auto g = plan_geometry({.bytes = 64 * kMiB, .hosts = 8, .sockets = 16384});
  ASSERT_TRUE(g) << g.error().text;
  EXPECT_EQ(g->sockets, 16384u);
  const auto refused = plan_geometry({.bytes = 26 * kMiB, .hosts = 8, .sockets = 16384});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("or --sockets"), std::string::npos) << refused.error().text;
}

TEST(FormatPlan, RefusesImpossibleNumbers) {
  EXPECT_EQ(plan_geometry({.bytes = 1024 * kMiB, .hosts = 1}).error().code, EINVAL);
  EXPECT_EQ(plan_geometry({.bytes = 1024 * kMiB, .hosts = 129}).error().code, EINVAL);
  EXPECT_EQ(plan_geometry({.bytes = 1024 * kMiB, .sockets = 3}).error().code, EINVAL);
  EXPECT_EQ(plan_geometry({.bytes = 1024 * kMiB, .block_size = 5000}).error().code, EINVAL);
  EXPECT_EQ(plan_geometry({.bytes = 0}).error().code, ENOSPC);
}

TEST(FormatPlan, FitsEveryBlockSize) {
  for (std::uint32_t size = 4096; size <= 65536; size *= 2) {
    const auto g = plan_geometry({.bytes = 2048 * kMiB, .block_size = size});
    ASSERT_TRUE(g) << size;
    EXPECT_LE(bytes_needed(*g), 2048 * kMiB);
  }
}

TEST(SizeText, ReadsUnitsOf1024) {
  EXPECT_EQ(parse_size("4096").value(), 4096u);
  EXPECT_EQ(parse_size("64K").value(), 65536u);
  EXPECT_EQ(parse_size("92M").value(), 92 * kMiB);
  EXPECT_EQ(parse_size("1g").value(), 1024 * kMiB);
  EXPECT_EQ(parse_size("2TiB").value(), 2ull << 40);
  EXPECT_EQ(parse_size("3MB").value(), 3 * kMiB);
  for (const char* bad : {"", "M", "1X", "-1", "1.5G", "1 G", "1GG", "99999999999T", "0x10"}) EXPECT_FALSE(parse_size(bad)) << bad;
}

TEST(SizeText, WritesWhatPeopleRead) {
  EXPECT_EQ(size_text(512), "512 bytes");
  EXPECT_EQ(size_text(92 * kMiB), "92 MiB");
  EXPECT_EQ(size_text(1536 * kMiB), "1.5 GiB");
}

}  // namespace
}  // namespace stp
