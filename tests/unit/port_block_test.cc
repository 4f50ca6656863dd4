#include "stp/port_block.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

const Geometry g = golden::geometry();

golden::Block encoded(const PortBlock& ports) {
  golden::Block block(g.block_size);
  encode_port_block(block, ports, golden::uuid(), g);
  return block;
}

BlockFault decode(ConstBytes block) { return decode_port_block(block, golden::uuid(), g, 1, 0).fault; }

TEST(PortCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(encoded(golden::port_block()), golden::bytes(golden::kPort)));
  const DecodedPortBlock decoded = decode_port_block(golden::bytes(golden::kPort), golden::uuid(), g, 1, 0);
  ASSERT_EQ(decoded.fault, BlockFault::kNone);
  EXPECT_EQ(decoded.block.owner, golden::kAlpha);
  EXPECT_EQ(decoded.block.ports, golden::port_block().ports);
}

TEST(PortCodec, RefusesEveryFlippedBitAndEveryTear) {
  PortBlock few = golden::port_block();
  few.ports.resize(82);
  golden::expect_every_flip_refused(encoded(few), kBlockHeaderSize + 82 * 8, decode);
  golden::expect_every_tear_refused(encoded(few), kBlockHeaderSize + 82 * 8, decode);
}

TEST(PortCodec, RefusesAnotherPlaceSlotOrStorage) {
  const golden::Block block = encoded(golden::port_block());
  EXPECT_EQ(decode_port_block(block, golden::uuid(), g, 1, 1).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_port_block(block, golden::uuid(), g, 0, 0).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_port_block(block, golden::other_uuid(), g, 1, 0).fault, BlockFault::kUuid);
}

TEST(PortCodec, RefusesFieldsOutOfBounds) {
  PortBlock ports = golden::port_block();
  ports.ports[80].state = static_cast<PortState>(3);
  EXPECT_EQ(decode(encoded(ports)), BlockFault::kBody);
  ports = golden::port_block();
  ports.ports[80].scb = 62;  // there are SCBs 0 to 61
  EXPECT_EQ(decode(encoded(ports)), BlockFault::kBody);
  ports.ports[80] = {PortState::kFree, 62};  // of a free port it means nothing
  EXPECT_EQ(decode(encoded(ports)), BlockFault::kNone);
}

TEST(PortCodec, SurvivesGarbage) { golden::feed_garbage(open_any_block(encoded(golden::port_block()), kPortMagic).header, decode); }

}  // namespace
}  // namespace stp
