#include "stp/checker.h"

#include <algorithm>
#include <random>

#include "tests/unit/memory_storage.h"

namespace stp {
namespace {

using Severity = Finding::Severity;

struct Check : ::testing::Test {
  testing::MemoryStorage storage;
  testing::ManualClock clock;
  std::vector<Finding> findings;
  const Geometry& g = storage.geometry();
  const Uuid uuid = golden::uuid();

  bool descriptions_only = false;

  CheckSummary check() {
    findings.clear();
    CheckRequest request;
    request.clock = clock.clock();
    request.descriptions_only = descriptions_only;
    request.report = [&](const Finding& f) { findings.push_back(f); };
    const auto sum = check_storage(storage, request);
    EXPECT_TRUE(sum);
    EXPECT_EQ(storage.writes, 0) << "check must never write";
    return sum ? *sum : CheckSummary{};
  }
  void expect_one(Severity severity, std::uint64_t block, std::string_view region, std::string_view words) {
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].severity, severity);
    EXPECT_EQ(findings[0].block, block);
    EXPECT_EQ(findings[0].region, region);
    EXPECT_NE(findings[0].what.find(words), std::string::npos) << findings[0].what;
    EXPECT_FALSE(findings[0].advice.empty());
  }
  void join(Slot slot, const char* name, bool alive, std::uint64_t incarnation = 7) {
    storage.put_lease(storage.host(slot, name, incarnation, true));
    if (alive) storage.fake_locks.held.insert(slot);
  }
  void put_gate(const Identity& sender, Slot receiver) {
    encode_gate(storage.block(g.gate(receiver, sender.slot)), {.sender = sender, .receiver = {.slot = receiver, .incarnation = 1, .nonce = 1}, .sequence = 1},
                uuid, g);
  }
  void put_packet(const Identity& sender, Slot receiver, std::uint64_t sequence) {
    const Bytes block = storage.block(g.packet(sender.slot, receiver, sequence));
    PacketBuilder builder(block);
    builder.append({1, true}, CreditMessage{5});
    builder.seal(sender, {.slot = receiver, .incarnation = 1, .nonce = 1}, sequence, 0, uuid, g);
  }
  // The fifth packet of slot 1 to slot 2, changed and sealed again.
  template <class Change>
  void put_changed_packet(Change change) {
    put_packet(storage.lease(1).owner, 2, 5);
    const Bytes block = storage.block(g.packet(1, 2, 5));
    BlockHeader header = open_any_block(block, kPacketMagic).header;
    change(block, header);
    seal_block(block, header);
  }
};

TEST_F(Check, AFreshStorageIsClean) {
  const CheckSummary sum = check();
  EXPECT_EQ(sum.faults + sum.warnings, 0u);
  EXPECT_EQ(sum.blocks, 2 + g.hosts + g.hosts * g.hosts + g.hosts * (g.scb_blocks + g.port_blocks + g.hosts * g.ring_blocks));
  EXPECT_EQ(sum.empty, sum.blocks - 2 - g.hosts);
}

TEST_F(Check, AStorageInUseIsClean) {
  join(1, "alpha", true);
  const Identity alpha = storage.lease(1).owner;
  put_gate(alpha, 2);
  for (std::uint64_t n = 1; n <= 2 * g.ring_blocks + 3; ++n) put_packet(alpha, 2, n);
  ScbBlock scbs = golden::scb_block();
  scbs.owner = alpha;
  storage.put_scbs(scbs);
  PortBlock ports = golden::port_block();
  ports.owner = alpha;
  storage.put_ports(ports);
  const CheckSummary sum = check();
  EXPECT_EQ(sum.faults + sum.warnings, 0u);
  EXPECT_EQ(sum.stale, 0u);
}

TEST_F(Check, DescriptionsAloneLeaveOutRingsAndFreeSlots) {
  join(0, "alpha", true);
  join(1, "beta", true);
  storage.block(g.packet(0, 1, 3))[5] = std::byte{77};
  storage.block(g.gate(3, 0))[5] = std::byte{77};
  storage.block(g.scb_block(2, 0))[5] = std::byte{77};
  storage.block(g.scb_block(1, 1))[5] = std::byte{77};
  descriptions_only = true;
  const CheckSummary sum = check();
  expect_one(Severity::kFault, g.scb_block(1, 1), "socket table", "");
  EXPECT_EQ(sum.blocks, 2 + g.hosts + 4 + 2 * (g.scb_blocks + g.port_blocks));
}

TEST_F(Check, BlocksOfAnEarlierLifeAreStaleAndFine) {
  join(1, "alpha", true, 8);
  Identity earlier = storage.lease(1).owner;
  earlier.incarnation = 7;
  put_gate(earlier, 2);
  put_packet(earlier, 2, 1);
  const CheckSummary sum = check();
  EXPECT_EQ(sum.faults + sum.warnings, 0u);
  EXPECT_EQ(sum.stale, 2u);
}

TEST_F(Check, NamesADamagedSuperblockAndItsCopy) {
  storage.block(0)[140] ^= std::byte{1};
  EXPECT_EQ(check().faults, 1u);
  expect_one(Severity::kFault, 0, "superblock", "checksum");
  storage.block(0)[140] ^= std::byte{1};
  std::ranges::fill(storage.block(g.superblock_copy()), std::byte{0});
  EXPECT_EQ(check().faults, 1u);
  expect_one(Severity::kFault, g.superblock_copy(), "superblock", "never written");
}

TEST_F(Check, NamesACopyOfAnotherStorage) {
  Superblock other = storage.superblock();
  other.uuid = golden::other_uuid();
  encode_superblock(storage.block(g.superblock_copy()), other, g.superblock_copy());
  check();
  expect_one(Severity::kFault, g.superblock_copy(), "superblock", "says something else");
}

TEST_F(Check, NamesADamagedLease) {
  storage.block(g.lease(2))[130] ^= std::byte{1};
  check();
  expect_one(Severity::kFault, g.lease(2), "lease", "checksum");
  EXPECT_EQ(findings[0].slot, 2u);
  EXPECT_NE(findings[0].advice.find("slot:2"), std::string::npos);
}

TEST_F(Check, AnEmptyLeaseIsAFault) {
  std::ranges::fill(storage.block(g.lease(3)), std::byte{0});
  check();
  expect_one(Severity::kFault, g.lease(3), "lease", "never written");
}

TEST_F(Check, ALeaseWhoseListIsTornIsSaid) {
  join(1, "alpha", true);
  storage.block(g.lease(1))[530] ^= std::byte{1};
  check();
  expect_one(Severity::kFault, g.lease(1), "lease", "list of what this host sees");
}

TEST_F(Check, TwoOwnersOfOneNameAreAFault) {
  join(0, "alpha", true);
  join(2, "alpha", false);
  check();
  expect_one(Severity::kFault, g.lease(2), "lease", "both carry the name \"alpha\"");
}

TEST_F(Check, DamageOfALivingHostIsAFaultWithItsName) {
  join(1, "alpha", true);
  const Identity alpha = storage.lease(1).owner;
  put_packet(alpha, 2, 5);
  storage.block(g.packet(1, 2, 5))[200] ^= std::byte{1};
  storage.block(g.packet(1, 2, 5))[130] ^= std::byte{1};
  check();
  expect_one(Severity::kFault, g.packet(1, 2, 5), "ring", "checksum");
  EXPECT_EQ(findings[0].host, "alpha");
}

TEST_F(Check, ATornBlockOfADeadHostIsAWarning) {
  join(1, "alpha", false);
  put_packet(storage.lease(1).owner, 2, 5);
  storage.block(g.packet(1, 2, 5))[130] ^= std::byte{1};
  const CheckSummary sum = check();
  EXPECT_EQ(sum.faults, 0u);
  expect_one(Severity::kWarning, g.packet(1, 2, 5), "ring", "torn by a crash");
}

TEST_F(Check, ABlockWithoutItsFirstSectorIsTorn) {
  join(1, "alpha", false);
  ScbBlock scbs = golden::scb_block();
  scbs.owner = storage.lease(1).owner;
  scbs.scbs.resize(31, scbs.scbs[0]);
  for (std::uint32_t i = 0; i < 31; ++i) scbs.scbs[i].index = 31 + i;
  storage.put_scbs(scbs);
  std::ranges::fill(storage.block(g.scb_block(1, 1)).first(512), std::byte{0});
  check();
  expect_one(Severity::kWarning, g.scb_block(1, 1), "socket table", "torn");
}

TEST_F(Check, GarbageIsAFaultEvenOfADeadHost) {
  std::mt19937 random(1);
  for (std::byte& b : storage.block(g.port_block(3, 7))) b = static_cast<std::byte>(random());
  check();
  expect_one(Severity::kFault, g.port_block(3, 7), "port file", "not the kind of block");
  EXPECT_EQ(findings[0].host, "slot 3");
}

TEST_F(Check, ABlockThatALivingHostIsJustWritingIsReadAgain) {
  join(1, "alpha", true);
  put_gate(storage.lease(1).owner, 2);
  storage.block(g.gate(2, 1))[130] ^= std::byte{1};
  clock.on_sleep = [&] { put_gate(storage.lease(1).owner, 2); };
  EXPECT_EQ(check().faults, 0u);
}

TEST_F(Check, SwappedBlocksAreFaults) {
  join(1, "alpha", true);
  put_packet(storage.lease(1).owner, 2, 1);
  put_packet(storage.lease(1).owner, 2, 2);
  std::ranges::swap_ranges(storage.block(g.packet(1, 2, 1)), storage.block(g.packet(1, 2, 2)));
  EXPECT_EQ(check().faults, 2u);
  EXPECT_NE(findings[0].what.find("another place"), std::string::npos);
}

TEST_F(Check, BlocksOfALifeThatTheLeaseDoesNotKnowAreFaults) {
  join(1, "alpha", true, 7);
  Identity clone = storage.lease(1).owner;
  clone.nonce ^= 1;
  put_gate(clone, 2);
  check();
  expect_one(Severity::kFault, g.gate(2, 1), "gate", "incarnation 7");
  Identity future = storage.lease(1).owner;
  future.incarnation = 9;
  put_gate(future, 2);
  check();
  expect_one(Severity::kFault, g.gate(2, 1), "gate", "incarnation 9");
}

TEST_F(Check, AHostThatComesBackDuringTheCheckIsNoFault) {
  join(1, "alpha", true, 7);
  const Lease next = storage.host(1, "alpha", 8, true);
  put_gate(next.owner, 2);
  storage.before_read = [&](std::uint64_t first) {
    if (first == g.gate(2, 1)) storage.put_lease(next);
  };
  EXPECT_EQ(check().faults, 0u);
}

TEST_F(Check, MessagesWithImpossibleLengthsAreFaults) {
  join(1, "alpha", true);
  put_changed_packet([](Bytes block, BlockHeader&) { store_le<std::uint32_t>(block.data() + kBlockHeaderSize + 8, 9); });
  check();
  expect_one(Severity::kFault, g.packet(1, 2, 5), "ring", "impossible length");
}

TEST_F(Check, TablesOfADeadHostThatDoNotAgreeAreAWarning) {
  join(1, "alpha", false);
  PortBlock ports = golden::port_block();
  ports.owner = storage.lease(1).owner;
  storage.put_ports(ports);
  EXPECT_EQ(check().faults, 0u);
  EXPECT_EQ(findings.size(), 2u);
  EXPECT_NE(findings[0].what.find("port 80 is listened on by SCB 32"), std::string::npos) << findings[0].what;
  storage.fake_locks.held.insert(1);
  check();
  EXPECT_TRUE(findings.empty()) << "a living host writes its tables behind";
}

TEST_F(Check, AnUnreadableBlockIsNamedAndTheRestChecked) {
  storage.unreadable = g.port_block(2, 3);
  EXPECT_EQ(check().faults, 1u);
  expect_one(Severity::kFault, g.port_block(2, 3), "port file", "Input/output error");
}

TEST_F(Check, ASuperblockThatCanNotBeReadIsNamed) {
  for (const std::uint64_t place : {std::uint64_t{0}, g.superblock_copy()}) {
    storage.unreadable = place;
    EXPECT_EQ(check().faults, 1u);
    expect_one(Severity::kFault, place, "superblock", "Input/output error");
  }
}

TEST_F(Check, ASuperblockOfAnotherPlaceIsNamed) {
  std::ranges::copy(storage.block(0), storage.block(g.superblock_copy()).begin());
  check();
  expect_one(Severity::kFault, g.superblock_copy(), "superblock", "another place");
}

TEST_F(Check, ALeaseThatCanNotBeReadAgainIsNamed) {
  join(1, "alpha", false);
  storage.before_read = [&](std::uint64_t first) {
    storage.unreadable = first == g.superblock_copy() ? g.lease(1) : UINT64_MAX;  // the hosts are known by then
  };
  EXPECT_EQ(check().faults, 0u);
  expect_one(Severity::kWarning, g.lease(1), "lease", "list of what this host sees");
}

TEST_F(Check, OneNameInTwoSlotsIsAWarningWhileOneIsBeingClaimed) {
  join(0, "alpha", true);
  Lease claim = storage.host(2, "alpha", 7, true);
  claim.state = LeaseState::kClaim;
  storage.put_lease(claim);
  EXPECT_EQ(check().faults, 0u);
  expect_one(Severity::kWarning, g.lease(2), "lease", "both carry the name");
}

TEST_F(Check, APacketWithTheNumberOfAnotherPlaceIsAFault) {
  join(1, "alpha", true);
  for (const std::uint64_t sequence : {std::uint64_t{0}, std::uint64_t{6}}) {
    put_changed_packet([&](Bytes, BlockHeader& header) { header.sequence = sequence; });
    check();
    expect_one(Severity::kFault, g.packet(1, 2, 5), "ring", "does not belong in place");
  }
}

TEST_F(Check, TablesOfADeadHostThatAgreeAreClean) {
  join(1, "alpha", false);
  PortBlock ports = golden::port_block();
  ports.owner = storage.lease(1).owner;
  ports.ports.assign(g.ports_a_block(), PortEntry{});
  ports.ports[80] = {.state = PortState::kListening, .scb = 31};
  storage.put_ports(ports);
  ScbBlock scbs = golden::scb_block();
  scbs.owner = ports.owner;
  Scb listener = scbs.scbs[0];
  listener.index = 31;
  listener.state = ScbState::kListening;
  listener.local_port = 80;
  scbs.scbs.assign(1, listener);
  storage.put_scbs(scbs);
  check();
  EXPECT_TRUE(findings.empty());
  // A listener that has another port, and one that does not listen.
  ++scbs.scbs[0].local_port;
  storage.put_scbs(scbs);
  check();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_NE(findings[0].what.find("is listened on by SCB 31"), std::string::npos) << findings[0].what;
  scbs.scbs[0].local_port = listener.local_port;
  scbs.scbs[0].state = ScbState::kBound;
  storage.put_scbs(scbs);
  check();
  EXPECT_EQ(findings.size(), 1u);
  // To be bound, that is enough.
  ports.ports[80].state = PortState::kBound;
  storage.put_ports(ports);
  check();
  EXPECT_TRUE(findings.empty());
}

TEST_F(Check, ABlockOfALivingHostThatCanNotBeReadAgainKeepsItsFirstVerdict) {
  join(1, "alpha", true);
  put_gate(storage.lease(1).owner, 2);
  storage.block(g.gate(2, 1))[130] ^= std::byte{1};
  clock.on_sleep = [&] { storage.unreadable = g.gate(2, 1); };
  check();
  expect_one(Severity::kFault, g.gate(2, 1), "gate", "checksum");
}

TEST_F(Check, TellsHowFarItIsAndNeedsNoListener) {
  std::uint64_t last = 0, total = 0;
  CheckRequest request;
  request.clock = clock.clock();
  request.progress = [&](std::uint64_t done, std::uint64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  storage.block(g.gate(3, 0))[5] = std::byte{77};
  const auto sum = check_storage(storage, request);
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum->faults, 1u);
  EXPECT_EQ(last, total);
  EXPECT_EQ(to_string(Severity::kFault), "fault");
  EXPECT_EQ(to_string(Severity::kWarning), "warning");
}

TEST_F(Check, SaysThatNothingCanBeCheckedWithoutLeases) {
  storage.unreadable = g.lease(1);
  CheckRequest request;
  request.clock = clock.clock();
  const auto sum = check_storage(storage, request);
  ASSERT_FALSE(sum);
  EXPECT_EQ(sum.error().code, EIO);
}

TEST_F(Check, EveryPlantedBadBlockIsFoundByItsNumber) {
  join(0, "alpha", true);
  join(1, "beta", false);
  std::mt19937_64 random(42);
  const std::uint64_t end = g.superblock_copy();
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t place = random() % end;
    const bool covered = place < g.gate_first + g.hosts * g.hosts ||
                         (place >= g.area_first && (place - g.area_first) % g.area_blocks < g.rings_at + g.hosts * g.ring_blocks);
    const std::vector<std::byte> before(storage.block(place).begin(), storage.block(place).end());
    for (std::byte& b : storage.block(place)) b = static_cast<std::byte>(random());
    check();
    if (covered) {
      ASSERT_EQ(findings.size(), 1u) << "block " << place;
      EXPECT_EQ(findings[0].block, place);
    } else {
      EXPECT_TRUE(findings.empty());
    }
    std::ranges::copy(before, storage.block(place).begin());
  }
}

}  // namespace
}  // namespace stp
