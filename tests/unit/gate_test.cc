#include "stp/gate.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

const Geometry g = golden::geometry();

golden::Block encoded(const Gate& gate) {
  golden::Block block(g.block_size);
  encode_gate(block, gate, golden::uuid(), g);
  return block;
}

BlockFault decode(ConstBytes block) { return decode_gate(block, golden::uuid(), g, 2, 1).fault; }

TEST(GateCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(encoded(golden::gate()), golden::bytes(golden::kGate)));
  const DecodedGate decoded = decode_gate(golden::bytes(golden::kGate), golden::uuid(), g, 2, 1);
  ASSERT_EQ(decoded.fault, BlockFault::kNone);
  EXPECT_EQ(decoded.gate, golden::gate());
}

TEST(GateCodec, CarriesARefusalAndWhatItHolds) {
  Gate gate = golden::gate();
  gate.held = 3;
  gate.refused_incarnation = 9;
  gate.refused_nonce = 0x99aabbccddeeff00;
  EXPECT_EQ(decode_gate(encoded(gate), golden::uuid(), g, 2, 1).gate, gate);
}

TEST(GateCodec, RefusesEveryFlippedBitAndEveryTear) {
  golden::expect_every_flip_refused(encoded(golden::gate()), 176, decode);
  golden::expect_every_tear_refused(encoded(golden::gate()), 176, decode);
}

TEST(GateCodec, RefusesTheGateOfAnotherPairOrStorage) {
  const golden::Block block = encoded(golden::gate());
  EXPECT_EQ(decode_gate(block, golden::uuid(), g, 1, 2).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_gate(block, golden::uuid(), g, 2, 0).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_gate(block, golden::other_uuid(), g, 2, 1).fault, BlockFault::kUuid);
}

TEST(GateCodec, RefusesAWriterOrAddresseeThatDoesNotBelongThere) {
  golden::Block block = encoded(golden::gate());
  BlockHeader h = open_any_block(block, kGateMagic).header;
  h.writer.slot = 3;
  seal_block(block, h);
  EXPECT_EQ(decode(block), BlockFault::kWriter);
  h.writer.slot = 1;
  h.addressee.slot = 3;
  seal_block(block, h);
  EXPECT_EQ(decode(block), BlockFault::kBody);
}

TEST(GateCodec, RefusesABodyCutShort) {
  golden::Block block = encoded(golden::gate());
  BlockHeader h = open_any_block(block, kGateMagic).header;
  h.body_length = 40;
  seal_block(block, h);
  EXPECT_EQ(decode(block), BlockFault::kBody);
}

TEST(GateCodec, SurvivesGarbage) { golden::feed_garbage(open_any_block(encoded(golden::gate()), kGateMagic).header, decode); }

}  // namespace
}  // namespace stp
