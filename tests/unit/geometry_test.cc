#include "stp/geometry.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace stp {
namespace {

Geometry wanted(std::uint32_t block_size, std::uint32_t hosts, std::uint32_t sockets, std::uint32_t ring, std::uint32_t extents) {
  Geometry g;
  g.block_size = block_size;
  g.hosts = hosts;
  g.sockets = sockets;
  g.ring_blocks = ring;
  g.extents = extents;
  g.total_blocks = UINT64_MAX / 65536;
  return g;
}

TEST(Geometry, LaysOutTheDocumentedExample) {
  Geometry g = wanted(4096, 4, 62, 16, 4);
  g.total_blocks = 2305;
  const auto made = derive_geometry(g);
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_EQ(made->lease(3), 4u);
  EXPECT_EQ(made->gate(0, 0), 5u);
  EXPECT_EQ(made->gate(2, 1), 14u);
  EXPECT_EQ(made->area(0), 256u);
  EXPECT_EQ(made->area(1), 768u);
  EXPECT_EQ(made->scb_blocks, 2u);
  EXPECT_EQ(made->port_blocks, 133u);
  EXPECT_EQ(made->packet(1, 2, 18), 936u);
  EXPECT_EQ(made->extent(1, 1), 768u + 256 + 64);
  EXPECT_EQ(made->superblock_copy(), 2304u);
}

TEST(Geometry, AsksForExactlyTheBytesThatItTakes) {
  Geometry g = wanted(4096, 4, 62, 16, 4);
  g.total_blocks = bytes_needed(g) / 4096;
  EXPECT_TRUE(derive_geometry(g));
  --g.total_blocks;
  const auto made = derive_geometry(g);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ENOSPC);
  EXPECT_NE(made.error().text.find(std::to_string(bytes_needed(g))), std::string::npos) << made.error().text;
}

TEST(Geometry, KnowsWhatDescribesFromWhatIsSaid) {
  Geometry wish = wanted(4096, 4, 62, 16, 4);
  wish.total_blocks = 2305;
  const Geometry g = derive_geometry(wish).value();
  EXPECT_TRUE(g.describes(0, 5 + 16));
  EXPECT_FALSE(g.describes(0, 5 + 17)) << "what lies between";
  EXPECT_TRUE(g.describes(g.scb_block(1, 0), 2 + 133));
  EXPECT_FALSE(g.describes(g.scb_block(1, 0), 2 + 134)) << "the first packet of a ring";
  EXPECT_FALSE(g.describes(g.ring(1, 0), 1));
  EXPECT_FALSE(g.describes(g.extent(3, 3) + 63, 1));
  EXPECT_FALSE(g.describes(g.area(3) + g.area_blocks - 1, 2)) << "into the copy of the superblock";
  EXPECT_TRUE(g.describes(g.superblock_copy(), 1));
  EXPECT_FALSE(g.describes(g.superblock_copy(), 2));
  EXPECT_FALSE(g.describes(g.total_blocks, 1));
  EXPECT_FALSE(g.describes(1, UINT64_MAX));
  EXPECT_FALSE(g.describes(1, 0));
  std::uint64_t described = 0;
  for (std::uint64_t block = 0; block < g.total_blocks; ++block) described += g.describes(block, 1);
  EXPECT_EQ(described, 1 + 4 + 16 + 4 * (2 + 133) + 1u);
}

TEST(Geometry, RefusesNumbersOutOfBounds) {
  for (const Geometry& g : {wanted(2048, 4, 64, 16, 4), wanted(4097, 4, 64, 16, 4), wanted(131072, 4, 64, 16, 4), wanted(0, 4, 64, 16, 4),
                            wanted(4096, 1, 64, 16, 4), wanted(4096, 129, 64, 16, 4), wanted(4096, 4, 15, 16, 4), wanted(4096, 4, kMaxSockets + 1, 16, 4),
                            wanted(4096, 4, 64, 8, 4), wanted(4096, 4, 64, 24, 4), wanted(4096, 4, 64, 8192, 4), wanted(4096, 4, 64, 16, 3),
                            wanted(4096, 4, 64, 16, kMaxExtents + 1)}) {
    const auto made = derive_geometry(g);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, EINVAL);
  }
  EXPECT_TRUE(derive_geometry(wanted(65536, kMaxHosts, kMaxSockets, kMaxRingBlocks, kMaxExtents)));
}

TEST(Geometry, NoTwoRegionsOverlapAndAreasAreAligned) {
  std::mt19937 engine(7);
  const auto random = [&engine] { return static_cast<std::uint32_t>(engine()); };
  for (int i = 0; i < 300; ++i) {
    const Geometry want = wanted(4096u << (random() % 5), 2 + random() % 20, 16 + random() % 3000, 16u << (random() % 5), 4 + random() % 100);
    const auto made = derive_geometry(want);
    ASSERT_TRUE(made) << made.error().text;
    const Geometry& g = *made;
    EXPECT_EQ(g.lease_first, 1u);
    EXPECT_EQ(g.gate_first, g.lease(g.hosts - 1) + 1);
    EXPECT_GE(g.area_first, g.gate(g.hosts - 1, g.hosts - 1) + 1);
    EXPECT_EQ(g.area_first * g.block_size % (1u << 20), 0u);
    EXPECT_EQ(g.area_blocks * g.block_size % (1u << 20), 0u);
    EXPECT_GE(static_cast<std::uint64_t>(g.scb_blocks) * g.scbs_a_block(), g.sockets);
    EXPECT_GE(static_cast<std::uint64_t>(g.port_blocks) * g.ports_a_block(), kPorts);
    EXPECT_EQ(g.ports_at, g.scb_blocks);
    EXPECT_EQ(g.rings_at, g.ports_at + g.port_blocks);
    EXPECT_GE(g.cache_at, g.rings_at + g.hosts * g.ring_blocks);
    EXPECT_EQ(g.extent(0, 0) * g.block_size % kExtentBytes, 0u) << "a device moves extents in whole pieces";
    EXPECT_LE(g.cache_at + g.extents * g.extent_blocks, g.area_blocks);
    EXPECT_LE(g.area(g.hosts - 1) + g.area_blocks, bytes_needed(g) / g.block_size - 1) << "the last block is the superblock's copy";
    EXPECT_EQ(g.packet(1, 0, 1), g.ring(1, 0));
    EXPECT_EQ(g.packet(1, 0, g.ring_blocks), g.ring(1, 0) + g.ring_blocks - 1);
    EXPECT_EQ(g.packet(1, 0, g.ring_blocks + 1), g.ring(1, 0));
  }
}

}  // namespace
}  // namespace stp
