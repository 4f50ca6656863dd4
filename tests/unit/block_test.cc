#include "stp/block.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

constexpr std::uint64_t kMagic = magic("STPTEST ");

struct Block : testing::Test {
  Block() : bytes(4096) {
    header.magic = kMagic;
    header.uuid = golden::uuid();
    header.place = 77;
    header.writer = golden::kAlpha;
    header.addressee = golden::kBeta;
    header.sequence = 5;
    header.body_length = 24;
    for (std::size_t i = 0; i < 24; ++i) bytes[kBlockHeaderSize + i] = static_cast<std::byte>(i);
    seal_block(bytes, header);
  }
  BlockFault open(ConstBytes b) const { return open_block(b, kMagic, golden::uuid(), 77, 1).fault; }

  golden::Block bytes;
  BlockHeader header;
};

TEST_F(Block, ComesBackAsItWasSealed) {
  const OpenedBlock opened = open_block(bytes, kMagic, golden::uuid(), 77, 1);
  ASSERT_EQ(opened.fault, BlockFault::kNone);
  EXPECT_EQ(opened.header.writer, golden::kAlpha);
  EXPECT_EQ(opened.header.addressee, golden::kBeta);
  EXPECT_EQ(opened.header.sequence, 5u);
  EXPECT_EQ(opened.body.size(), 24u);
  EXPECT_EQ(opened.body[23], std::byte{23});
}

TEST_F(Block, BeginsWithALegibleMagic) {
  EXPECT_EQ(std::memcmp(bytes.data(), "STPTEST ", 8), 0);
}

TEST_F(Block, RefusesEveryFlippedBitAndEveryTear) {
  golden::expect_every_flip_refused(bytes, kBlockHeaderSize + 24, [this](ConstBytes b) { return open(b); });
  golden::expect_every_tear_refused(bytes, kBlockHeaderSize + 24, [this](ConstBytes b) { return open(b); });
}

TEST_F(Block, NamesWhatIsWrong) {
  const Uuid uuid = golden::uuid();
  EXPECT_EQ(open_block(golden::Block(4096), kMagic, uuid, 77, 1).fault, BlockFault::kEmpty);
  EXPECT_EQ(open_block(bytes, magic("STPOTHER"), uuid, 77, 1).fault, BlockFault::kMagic);
  EXPECT_EQ(open_block(bytes, kMagic, golden::other_uuid(), 77, 1).fault, BlockFault::kUuid);
  EXPECT_EQ(open_block(bytes, kMagic, uuid, 78, 1).fault, BlockFault::kPlace);
  EXPECT_EQ(open_block(bytes, kMagic, uuid, 77, 2).fault, BlockFault::kWriter);
  EXPECT_EQ(open_block(bytes, kMagic, uuid, 77, kNoSlot).fault, BlockFault::kNone);
  bytes[kBlockHeaderSize] ^= std::byte{1};
  EXPECT_EQ(open(bytes), BlockFault::kChecksum);
}

TEST_F(Block, RefusesALengthBeyondItsEnd) {
  store_le<std::uint32_t>(bytes.data() + 88, 4096 - kBlockHeaderSize + 1);
  EXPECT_EQ(open(bytes), BlockFault::kLength);
  store_le<std::uint32_t>(bytes.data() + 88, 0xffffffff);
  EXPECT_EQ(open(bytes), BlockFault::kLength);
  EXPECT_EQ(open(ConstBytes(bytes).first(127)), BlockFault::kLength);
  EXPECT_EQ(open({}), BlockFault::kLength);
}

TEST_F(Block, RefusesNewerVersionsAndKeysOnlyWithAGoodChecksum) {
  header.version = 2;
  seal_block(bytes, header);
  EXPECT_EQ(open(bytes), BlockFault::kVersion);
  header.version = 1;
  header.key_id = 3;
  seal_block(bytes, header);
  EXPECT_EQ(open(bytes), BlockFault::kEncrypted);
  bytes[8] = std::byte{9};  // the version, damaged
  EXPECT_EQ(open(bytes), BlockFault::kChecksum);
}

TEST_F(Block, MovedElsewhereWithItsPlacePatchedIsRefused) {
  store_le<std::uint64_t>(bytes.data() + 32, 78);
  EXPECT_EQ(open_block(bytes, kMagic, golden::uuid(), 78, 1).fault, BlockFault::kChecksum);
}

TEST_F(Block, EveryFaultHasWords) {
  for (int f = 0; f <= static_cast<int>(BlockFault::kBody); ++f) EXPECT_NE(to_string(static_cast<BlockFault>(f)), "unknown");
}

}  // namespace
}  // namespace stp
