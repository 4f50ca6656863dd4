#include "stp/scb.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

const Geometry g = golden::geometry();

golden::Block encoded(const ScbBlock& table) {
  golden::Block block(g.block_size);
  encode_scb_block(block, table, golden::uuid(), g);
  return block;
}

BlockFault decode(ConstBytes block) { return decode_scb_block(block, golden::uuid(), g, 1, 1).fault; }

TEST(ScbCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(encoded(golden::scb_block()), golden::bytes(golden::kScb)));
  const DecodedScbBlock decoded = decode_scb_block(golden::bytes(golden::kScb), golden::uuid(), g, 1, 1);
  ASSERT_EQ(decoded.fault, BlockFault::kNone);
  EXPECT_EQ(decoded.block.owner, golden::kAlpha);
  EXPECT_EQ(decoded.block.sequence, 3u);
  const ScbBlock want = golden::scb_block();
  ASSERT_EQ(decoded.block.scbs.size(), 2u) << "entries that are not there count as free";
  EXPECT_EQ(decoded.block.scbs[0], want.scbs[0]);
  EXPECT_EQ(decoded.block.scbs[1], want.scbs[1]);
}

TEST(ScbCodec, RefusesEveryFlippedBitAndEveryTear) {
  const ScbBlock few = golden::scb_block();
  golden::expect_every_flip_refused(encoded(few), kBlockHeaderSize + 2 * 128, decode);
  golden::expect_every_tear_refused(encoded(few), kBlockHeaderSize + 2 * 128, decode);
}

TEST(ScbCodec, RefusesAnotherPlaceSlotOrStorage) {
  const golden::Block block = encoded(golden::scb_block());
  EXPECT_EQ(decode_scb_block(block, golden::uuid(), g, 1, 0).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_scb_block(block, golden::uuid(), g, 2, 1).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_scb_block(block, golden::other_uuid(), g, 1, 1).fault, BlockFault::kUuid);
}

TEST(ScbCodec, RefusesFieldsOutOfBounds) {
  const auto fault_of = [](const std::function<void(Scb&)>& change) {
    ScbBlock table = golden::scb_block();
    change(table.scbs[0]);
    return decode(encoded(table));
  };
  EXPECT_EQ(fault_of([](Scb&) {}), BlockFault::kNone);
  EXPECT_EQ(fault_of([](Scb& s) { s.state = static_cast<ScbState>(9); }), BlockFault::kBody);
  EXPECT_EQ(fault_of([](Scb& s) { s.index = 30; }), BlockFault::kBody) << "a number that belongs elsewhere";
  EXPECT_EQ(fault_of([](Scb& s) { s.peer_slot = 4; }), BlockFault::kBody) << "no such slot";
  EXPECT_EQ(fault_of([](Scb& s) { s.peer_name = "BETA"; }), BlockFault::kBody);
  EXPECT_EQ(fault_of([](Scb& s) { s.peer_name = "a\nb"; }), BlockFault::kBody);
  EXPECT_EQ(fault_of([](Scb& s) { s.peer_name = "beta~2"; }), BlockFault::kNone);
}

TEST(ScbCodec, EveryStateHasAName) {
  for (int s = 0; s <= kLastScbState; ++s) EXPECT_NE(to_string(static_cast<ScbState>(s)), "?");
  EXPECT_EQ(to_string(static_cast<ScbState>(200)), "?");
}

TEST(ScbCodec, SurvivesGarbage) { golden::feed_garbage(open_any_block(encoded(golden::scb_block()), kScbMagic).header, decode); }

}  // namespace
}  // namespace stp
