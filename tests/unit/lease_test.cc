#include "stp/lease.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

const Geometry g = golden::geometry();

golden::Block encoded(const Lease& l) {
  golden::Block block(g.block_size);
  encode_lease(block, l, golden::uuid(), g);
  return block;
}

BlockFault decode(ConstBytes block) { return decode_lease(block, golden::uuid(), g, 1).fault; }

TEST(LeaseCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(encoded(golden::lease()), golden::bytes(golden::kLease)));
  const DecodedLease decoded = decode_lease(golden::bytes(golden::kLease), golden::uuid(), g, 1);
  ASSERT_EQ(decoded.fault, BlockFault::kNone);
  EXPECT_EQ(decoded.lease, golden::lease());
}

TEST(LeaseCodec, RefusesEveryFlippedBitAndEveryTearOfTheCore) {
  golden::expect_every_flip_refused(encoded(golden::lease()), 288, decode);
  golden::expect_every_tear_refused(encoded(golden::lease()), 288, decode);
}

TEST(LeaseCodec, KeepsAGoodCoreWhenTheListIsDamaged) {
  golden::Block block = encoded(golden::lease());
  for (std::size_t bit = 512 * 8; bit < (512 + 8 + 4 * 24) * 8; ++bit) {
    block[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const DecodedLease decoded = decode_lease(block, golden::uuid(), g, 1);
    ASSERT_EQ(decoded.fault, BlockFault::kNone);
    ASSERT_EQ(decoded.lease.beat, 42u);
    ASSERT_TRUE(decoded.lease.seen.empty()) << "bit " << bit;
    block[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

TEST(LeaseCodec, DoesNotTakeTheListOfAnotherBeatOrLife) {
  Lease older = golden::lease();
  older.beat = 41;
  Lease twin = golden::lease();
  twin.owner.nonce = 1;
  for (const Lease& other : {older, twin}) {
    golden::Block block = encoded(golden::lease());
    const golden::Block from = encoded(other);
    std::copy(from.begin() + 512, from.end(), block.begin() + 512);
    const DecodedLease decoded = decode_lease(block, golden::uuid(), g, 1);
    EXPECT_EQ(decoded.fault, BlockFault::kNone);
    EXPECT_TRUE(decoded.lease.seen.empty());
  }
}

TEST(LeaseCodec, RefusesTheLeaseOfAnotherSlotOrStorage) {
  const golden::Block block = encoded(golden::lease());
  EXPECT_EQ(decode_lease(block, golden::uuid(), g, 2).fault, BlockFault::kPlace);
  EXPECT_EQ(decode_lease(block, golden::other_uuid(), g, 1).fault, BlockFault::kUuid);
}

TEST(LeaseCodec, RefusesStatesAndNamesThatDoNotExist) {
  Lease l = golden::lease();
  l.name = "Alpha";
  EXPECT_EQ(decode(encoded(l)), BlockFault::kBody);
  l.name = "";
  EXPECT_EQ(decode(encoded(l)), BlockFault::kBody);
  l.state = LeaseState::kFree;
  EXPECT_EQ(decode(encoded(l)), BlockFault::kNone);
  l.state = static_cast<LeaseState>(4);
  EXPECT_EQ(decode(encoded(l)), BlockFault::kBody);
  l.state = static_cast<LeaseState>(0);
  EXPECT_EQ(decode(encoded(l)), BlockFault::kBody);
}

TEST(LeaseCodec, SaysNothingOfALeaseThatItRefuses) {
  Lease l = golden::lease();
  l.name = "\x1b[2J";
  const DecodedLease decoded = decode_lease(encoded(l), golden::uuid(), g, 1);
  EXPECT_EQ(decoded.fault, BlockFault::kBody);
  EXPECT_EQ(decoded.lease, Lease{});
}

TEST(LeaseCodec, HoldsTheLongestListAndCutsALongerOne) {
  Lease l = golden::lease();
  l.seen.assign(kMaxHosts, {1, 2, 1});
  EXPECT_EQ(decode_lease(encoded(l), golden::uuid(), g, 1).lease.seen.size(), kMaxHosts);
  l.seen.assign(kMaxHosts + 1, {1, 2, 1});
  EXPECT_EQ(decode_lease(encoded(l), golden::uuid(), g, 1).lease.seen.size(), kMaxHosts);
}

TEST(LeaseCodec, SurvivesGarbage) { golden::feed_garbage(open_any_block(encoded(golden::lease()), kLeaseMagic).header, decode); }

}  // namespace
}  // namespace stp
