#include "stp/inspect.h"

#include "tests/unit/memory_storage.h"

namespace stp {
namespace {

struct Inspect : ::testing::Test {
  testing::MemoryStorage storage;
  testing::ManualClock clock;
  Lease alpha = storage.host(1, "alpha~2", 7, true);

  Inspect() {
    storage.put_lease(alpha);
    storage.fake_locks.held = {1};
    ScbBlock scbs = golden::scb_block();
    scbs.owner = alpha.owner;
    storage.put_scbs(scbs);
    PortBlock ports = golden::port_block();
    ports.owner = alpha.owner;
    storage.put_ports(ports);
  }
  Listing<SocketRow> sockets(const ListFilter& filter = {}) {
    return list_sockets(storage, observe_hosts(storage, clock.clock()).value(), filter).value();
  }
  Listing<PortRow> ports(const ListFilter& filter = {}) {
    return list_ports(storage, observe_hosts(storage, clock.clock()).value(), filter).value();
  }
};

TEST_F(Inspect, ListsSocketsAndPortsOfLivingHosts) {
  const auto list = sockets();
  ASSERT_EQ(list.rows.size(), 2u);
  EXPECT_EQ(list.rows[0].host, "alpha~2");
  EXPECT_EQ(list.rows[0].scb, golden::scb_block().scbs[0]);
  EXPECT_EQ(list.rows[1].scb.state, ScbState::kListening);
  const auto open_ports = ports();
  ASSERT_EQ(open_ports.rows.size(), 2u);
  EXPECT_EQ(open_ports.rows[0].port, 80);
  EXPECT_EQ(open_ports.rows[0].state, PortState::kListening);
  EXPECT_EQ(open_ports.rows[1].port, 81);
  EXPECT_TRUE(list.warnings.empty());
}

TEST_F(Inspect, WhatAnEarlierLifeLeftIsNotListed) {
  alpha.owner.incarnation = 8;
  storage.put_lease(alpha);
  EXPECT_TRUE(sockets().rows.empty());
  EXPECT_TRUE(ports().rows.empty());
  alpha.owner.incarnation = 7;
  alpha.owner.nonce = 5;  // the same number, another life
  storage.put_lease(alpha);
  EXPECT_TRUE(sockets().rows.empty());
}

TEST_F(Inspect, DeadHostsAreListedOnlyOnRequest) {
  storage.fake_locks.held.clear();
  EXPECT_TRUE(sockets().rows.empty());
  const auto list = sockets({.host = {}, .dead_too = true});
  ASSERT_EQ(list.rows.size(), 2u);
  EXPECT_EQ(list.rows[0].host_state, HostState::kDead);
}

TEST_F(Inspect, FiltersByHostAndItsInstances) {
  EXPECT_EQ(sockets({.host = "alpha"}).rows.size(), 2u);
  EXPECT_EQ(sockets({.host = "alpha~2"}).rows.size(), 2u);
  EXPECT_EQ(sockets({.host = "beta"}).rows.size(), 0u);
  EXPECT_EQ(ports({.host = "alpha"}).rows.size(), 2u);
}

TEST_F(Inspect, ADamagedBlockIsNamedAndTheRestListed) {
  storage.block(storage.geometry().scb_block(1, 0))[0] = std::byte{1};
  const auto list = sockets();
  EXPECT_EQ(list.rows.size(), 2u);
  ASSERT_EQ(list.warnings.size(), 1u);
  EXPECT_NE(list.warnings[0].find("alpha~2"), std::string::npos);
}

TEST_F(Inspect, DamagedPortsAreCountedAndTheRestListed) {
  const auto place = storage.geometry().port_block(1, 0);
  storage.block(place)[0] = std::byte{1};
  storage.block(place + 1)[0] = std::byte{1};
  const auto list = ports();
  ASSERT_EQ(list.warnings.size(), 1u);
  EXPECT_NE(list.warnings[0].find("2 blocks of the port file of alpha~2"), std::string::npos) << list.warnings[0];
}

TEST_F(Inspect, APortBlockInTheMiddleOfBeingWrittenIsReadAgain) {
  const auto place = storage.geometry().port_block(1, 1);
  storage.block(place)[200] ^= std::byte{1};
  storage.before_read = [&](std::uint64_t first) {
    if (first == place) storage.block(place)[200] ^= std::byte{1};
  };
  EXPECT_TRUE(ports().warnings.empty());
}

TEST_F(Inspect, SaysThatATableCanNotBeRead) {
  const auto hosts = observe_hosts(storage, clock.clock()).value();
  storage.unreadable = storage.geometry().scb_block(1, 1);
  EXPECT_EQ(list_sockets(storage, hosts, {}).error().code, EIO);
  storage.unreadable = storage.geometry().port_block(1, 1);
  EXPECT_EQ(list_ports(storage, hosts, {}).error().code, EIO);
}

TEST_F(Inspect, NamesTheStatesOfPortsAndLeases) {
  EXPECT_EQ(to_string(PortState::kFree), "FREE");
  EXPECT_EQ(to_string(PortState::kBound), "BOUND");
  EXPECT_EQ(to_string(PortState::kListening), "LISTEN");
  EXPECT_EQ(to_string(LeaseState::kFree), "FREE");
  EXPECT_EQ(to_string(LeaseState::kClaim), "CLAIM");
  EXPECT_EQ(to_string(LeaseState::kOwned), "OWNED");
}

TEST_F(Inspect, ABlockInTheMiddleOfBeingWrittenIsReadAgain) {
  const auto place = storage.geometry().scb_block(1, 1);
  storage.block(place)[200] ^= std::byte{1};
  storage.before_read = [&](std::uint64_t first) {
    if (first == place) storage.block(place)[200] ^= std::byte{1};  // the second look, at that block alone
  };
  const auto list = sockets();
  EXPECT_EQ(list.rows.size(), 2u);
  EXPECT_TRUE(list.warnings.empty());
}

}  // namespace
}  // namespace stp
