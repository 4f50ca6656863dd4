#include <algorithm>

#include "tests/unit/golden.h"

namespace stp {
namespace {

golden::Block encoded(const Superblock& s, std::uint64_t place = 0) {
  golden::Block block(s.geometry.block_size);
  encode_superblock(block, s, place);
  return block;
}

BlockFault decode(ConstBytes block) { return decode_superblock(block) ? BlockFault::kNone : BlockFault::kChecksum; }

// The golden block with one little-endian number of its body changed, and sealed again: nonsense with a good checksum.
template <class T>
golden::Block with(std::size_t body_offset, T value) {
  golden::Block block = encoded(golden::superblock());
  store_le<T>(block.data() + kBlockHeaderSize + body_offset, value);
  seal_block(block, open_any_block(encoded(golden::superblock()), kSuperblockMagic).header);
  return block;
}

TEST(SuperblockCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(encoded(golden::superblock()), golden::bytes(golden::kSuperblock)));
  EXPECT_TRUE(golden::same_bytes(encoded(golden::superblock(), 2304), golden::bytes(golden::kSuperblockCopy)));
  EXPECT_EQ(decode_superblock(golden::bytes(golden::kSuperblock)).value(), golden::superblock());
  EXPECT_EQ(decode_superblock(golden::bytes(golden::kSuperblockCopy)).value(), golden::superblock());
}

TEST(SuperblockCodec, RefusesEveryFlippedBitAndEveryTear) {
  const golden::Block block = encoded(golden::superblock());
  golden::expect_every_flip_refused(block, 504, decode);
  golden::expect_every_tear_refused(block, 504, decode);
}

TEST(SuperblockCodec, FitsOneSectorSoThatItCanNotTear) {
  const golden::Block block = encoded(golden::superblock());
  EXPECT_TRUE(std::ranges::all_of(std::span(block).subspan(512), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(SuperblockCodec, RefusesNonsenseWithAGoodChecksum) {
  EXPECT_TRUE(decode_superblock(with<std::uint32_t>(40, 62)));              // the harness itself: sockets as they were
  EXPECT_FALSE(decode_superblock(with<std::uint8_t>(0, 'G')));              // STG name
  EXPECT_FALSE(decode_superblock(with<std::uint8_t>(0, 0)));
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(32, 4095)));           // block size
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(32, 0)));
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(32, 131072)));
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(36, 129)));            // hosts
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(36, 3)));              // hosts: the directory says otherwise
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(44, 17)));             // ring
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(48, 0xffffffff)));     // extents
  EXPECT_FALSE(decode_superblock(with<std::uint8_t>(52, 3)));               // medium
  EXPECT_FALSE(decode_superblock(with<std::uint64_t>(56, 100)));            // total blocks
  EXPECT_FALSE(decode_superblock(with<std::uint64_t>(56, UINT64_MAX)));
  EXPECT_FALSE(decode_superblock(with<std::uint64_t>(56, (std::uint64_t{1} << 46) + 1)));
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(64, 0)));              // beat period
  EXPECT_FALSE(decode_superblock(with<std::uint64_t>(120, 1)));             // a feature that nobody knows
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(128, 5)));             // directory: one region short
  EXPECT_FALSE(decode_superblock(with<std::uint32_t>(128, 33)));
  EXPECT_FALSE(decode_superblock(with<std::uint64_t>(136 + 8, 2)));         // leases elsewhere
}

TEST(SuperblockCodec, SkipsRegionsOfTypesThatItDoesNotKnow) {
  golden::Block block = encoded(golden::superblock());
  BlockHeader h = open_any_block(block, kSuperblockMagic).header;
  store_le<std::uint32_t>(block.data() + kBlockHeaderSize + 128, 7);
  store_le<std::uint32_t>(block.data() + kBlockHeaderSize + 136 + 6 * 40, 1000);
  h.body_length += 40;
  seal_block(block, h);
  ASSERT_TRUE(decode_superblock(block));
  EXPECT_EQ(*decode_superblock(block), golden::superblock());
}

TEST(SuperblockCodec, RefusesThePlaceOfNeither) {
  EXPECT_FALSE(decode_superblock(encoded(golden::superblock(), 5)));
}

TEST(SuperblockCodec, SurvivesGarbage) {
  golden::feed_garbage(open_any_block(encoded(golden::superblock()), kSuperblockMagic).header, decode);
}

TEST(SuperblockCodec, WritesTheUuidAsPeopleDo) { EXPECT_EQ(to_string(golden::uuid()), "00112233-4455-6677-8899-aabbccddeeff"); }

}  // namespace
}  // namespace stp
