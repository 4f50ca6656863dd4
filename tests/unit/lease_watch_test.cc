#include "stp/lease_watch.h"

#include "tests/unit/memory_storage.h"

namespace stp {
namespace {

struct LeaseWatch : ::testing::Test {
  testing::MemoryStorage storage;
  testing::ManualClock clock;

  void beat(Slot slot) {
    Lease l = storage.lease(slot);
    ++l.beat;
    storage.put_lease(l);
  }
  std::vector<HostReport> observe() {
    auto hosts = observe_hosts(storage, clock.clock());
    EXPECT_TRUE(hosts);
    return hosts ? *hosts : std::vector<HostReport>();
  }
};

TEST_F(LeaseWatch, AnEmptyStorageIsKnownAtOnce) {
  for (const HostReport& h : observe()) EXPECT_EQ(h.state, HostState::kFree);
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(LeaseWatch, AChangingBeatIsAlive) {
  storage.put_lease(storage.host(1, "alpha"));
  storage.put_lease(storage.host(2, "beta"));
  clock.on_sleep = [&] { beat(1); };
  const auto hosts = observe();
  EXPECT_EQ(hosts[1].state, HostState::kAlive);
  EXPECT_TRUE(hosts[1].beat_seen);
  EXPECT_EQ(hosts[2].state, HostState::kSilent);
  EXPECT_GE(hosts[2].beat_age, 1500 * kMillisecond);
}

TEST_F(LeaseWatch, StopsWhenEveryoneIsJudged) {
  storage.put_lease(storage.host(1, "alpha"));
  clock.on_sleep = [&] { beat(1); };
  EXPECT_EQ(observe()[1].state, HostState::kAlive);
  EXPECT_LT(clock.slept, 500 * kMillisecond);
}

TEST_F(LeaseWatch, LocksOfThisKernelTellAtOnce) {
  storage.put_lease(storage.host(0, "alpha", 3, true));
  storage.put_lease(storage.host(1, "beta", 4, true));
  storage.fake_locks.held = {0};
  const auto hosts = observe();
  EXPECT_EQ(hosts[0].state, HostState::kAlive);
  EXPECT_EQ(hosts[1].state, HostState::kDead);
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(LeaseWatch, LocksSayNothingAboutAnotherKernel) {
  storage.put_lease(storage.host(1, "beta", 4, false));
  EXPECT_EQ(observe()[1].state, HostState::kSilent);
}

TEST_F(LeaseWatch, AFreeLeaseWithANameIsOfAHostThatLeft) {
  storage.put_lease(testing::MemoryStorage::free_lease(2, 5, "gamma"));
  const auto hosts = observe();
  EXPECT_EQ(hosts[2].state, HostState::kLeft);
  EXPECT_EQ(hosts[2].title(), "gamma");
}

TEST_F(LeaseWatch, AClaimIsJoining) {
  Lease l = storage.host(3, "delta");
  l.state = LeaseState::kClaim;
  storage.put_lease(l);
  EXPECT_EQ(observe()[3].state, HostState::kJoining);
}

TEST_F(LeaseWatch, ADamagedLeaseIsReadAgainBeforeItIsCalledUnreadable) {
  storage.put_lease(storage.host(1, "alpha", 3, true));
  storage.fake_locks.held = {1};
  storage.block(storage.geometry().lease(1))[200] ^= std::byte{1};
  clock.on_sleep = [&] { storage.put_lease(storage.host(1, "alpha", 3, true)); };
  EXPECT_EQ(observe()[1].state, HostState::kAlive);
  clock.on_sleep = nullptr;
  storage.block(storage.geometry().lease(1))[200] ^= std::byte{1};
  const auto hosts = observe();
  EXPECT_EQ(hosts[1].state, HostState::kUnreadable);
  EXPECT_EQ(hosts[1].fault, BlockFault::kChecksum);
  EXPECT_EQ(hosts[1].title(), "slot 1");
}

TEST_F(LeaseWatch, ALivingHostsVerdictSettlesASilentOne) {
  Lease alpha = storage.host(0, "alpha");
  alpha.seen[1] = {7, 1001, Seen::kRefused};
  storage.put_lease(alpha);
  storage.put_lease(storage.host(1, "beta", 7));
  clock.on_sleep = [&] { beat(0); };
  const auto hosts = observe();
  EXPECT_EQ(hosts[1].state, HostState::kDead);
  EXPECT_EQ(hosts[0].refuses, std::vector<Slot>{1});
}

TEST_F(LeaseWatch, AVerdictOnAnEarlierLifeSettlesNothing) {
  Lease alpha = storage.host(0, "alpha");
  alpha.seen[1] = {6, 1001, Seen::kRefused};
  storage.put_lease(alpha);
  storage.put_lease(storage.host(1, "beta", 7));
  clock.on_sleep = [&] { beat(0); };
  EXPECT_EQ(observe()[1].state, HostState::kSilent);
}

TEST_F(LeaseWatch, NamesTheHostsThatDoNotSeeEachOther) {
  Lease alpha = storage.host(0, "alpha"), beta = storage.host(1, "beta");
  alpha.seen[1] = {7, 1001, Seen::kAlive};
  storage.put_lease(alpha);
  storage.put_lease(beta);
  clock.on_sleep = [&] {
    beat(0);
    beat(1);
  };
  const auto hosts = observe();
  EXPECT_EQ(hosts[0].sees, std::vector<Slot>{1});
  EXPECT_TRUE(hosts[0].does_not_see.empty());
  EXPECT_EQ(hosts[1].does_not_see, std::vector<Slot>{0});
}

TEST_F(LeaseWatch, AStorageThatFailsIsAnError) {
  storage.unreadable = storage.geometry().lease(0);
  EXPECT_FALSE(observe_hosts(storage, clock.clock()));
}

struct Watching : LeaseWatch {
  HostWatch watch{clock.clock()};
  HostState state_of(Slot slot) {
    const auto hosts = watch.look(storage);
    EXPECT_TRUE(hosts);
    return hosts ? (*hosts)[slot].state : HostState::kFree;
  }
  // A second in which the host beats, and one in which it does not.
  void pass(bool beats) {
    clock.now += kSecond;
    if (beats) beat(1);
  }
};

TEST_F(LeaseWatch, AStorageThatFailsWhileItWatchesIsAnError) {
  storage.put_lease(storage.host(1, "alpha"));
  clock.on_sleep = [&] { storage.unreadable = storage.geometry().lease(0); };
  EXPECT_EQ(observe_hosts(storage, clock.clock()).error().code, EIO);
}

TEST_F(LeaseWatch, AHostThatLeavesAnotherThatComesAndOneThatIsDamagedMeanwhile) {
  storage.put_lease(storage.host(0, "alpha"));
  storage.put_lease(storage.host(1, "beta"));
  storage.put_lease(storage.host(2, "gamma"));
  storage.put_lease(storage.host(3, "delta"));
  clock.on_sleep = [&] {
    storage.put_lease(testing::MemoryStorage::free_lease(0, 7, "alpha"));
    storage.put_lease(storage.host(1, "beta", 8));
    storage.put_lease(storage.host(2, "other"));
    storage.block(storage.geometry().lease(3))[200] = std::byte{0xee};
  };
  const auto hosts = observe();
  EXPECT_EQ(hosts[0].state, HostState::kLeft);
  EXPECT_EQ(hosts[1].state, HostState::kAlive) << "another life was begun";
  EXPECT_EQ(hosts[2].state, HostState::kSilent);
  EXPECT_EQ(hosts[3].state, HostState::kUnreadable);
}

TEST(HostStates, HaveWords) {
  std::set<std::string_view> words;
  for (const HostState state : {HostState::kFree, HostState::kLeft, HostState::kJoining, HostState::kAlive, HostState::kSilent, HostState::kDead, HostState::kUnreadable})
    words.insert(to_string(state));
  EXPECT_EQ(words.size(), 7u);
  EXPECT_TRUE(words.contains("unreadable"));
}

TEST(WatchClockOfTheMachine, Sleeps) {
  const WatchClock clock = WatchClock::real();
  const Nanos before = clock.now();
  clock.sleep(5 * kMillisecond);
  EXPECT_GE(clock.now() - before, 5 * kMillisecond);
}

TEST_F(Watching, AStorageThatFailsIsAnErrorAndTheNextLookBeginsAnew) {
  storage.put_lease(storage.host(1, "alpha"));
  clock.on_sleep = [&] { beat(1); };
  storage.unreadable = storage.geometry().lease(0);
  EXPECT_FALSE(watch.look(storage));
  storage.unreadable = UINT64_MAX;
  EXPECT_EQ(state_of(1), HostState::kAlive);
  storage.unreadable = storage.geometry().lease(0);
  EXPECT_FALSE(watch.look(storage));
  storage.unreadable = UINT64_MAX;
  pass(true);
  EXPECT_EQ(state_of(1), HostState::kAlive);
}

TEST_F(Watching, OnlyTheFirstLookWaits) {
  storage.put_lease(storage.host(1, "alpha"));
  storage.put_lease(storage.host(2, "beta"));
  clock.on_sleep = [&] { beat(1); };
  EXPECT_EQ(state_of(1), HostState::kAlive);
  EXPECT_GT(clock.slept, 0);
  clock.slept = 0;
  for (int i = 0; i < 5; ++i) {
    pass(true);
    EXPECT_EQ(state_of(1), HostState::kAlive);
    EXPECT_EQ(state_of(2), HostState::kSilent);
  }
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(Watching, AHostThatStopsBeatingFallsSilentAndComesBack) {
  storage.put_lease(storage.host(1, "alpha"));
  clock.on_sleep = [&] { beat(1); };
  EXPECT_EQ(state_of(1), HostState::kAlive);
  for (int i = 0; i < 3; ++i) {
    pass(false);
    (void)state_of(1);
  }
  EXPECT_EQ(state_of(1), HostState::kSilent);
  EXPECT_GE((*watch.look(storage))[1].beat_age, 3 * kSecond);
  pass(true);
  EXPECT_EQ(state_of(1), HostState::kAlive);
}

TEST_F(Watching, WhatBeatDuringALongPauseIsNotTakenForAliveNow) {
  storage.put_lease(storage.host(1, "alpha"));
  clock.on_sleep = [&] { beat(1); };
  EXPECT_EQ(state_of(1), HostState::kAlive);
  clock.on_sleep = nullptr;
  beat(1);
  clock.now += 3600 * kSecond;
  EXPECT_EQ(state_of(1), HostState::kSilent);
}

TEST_F(Watching, TheLocksOfThisKernelAreAskedEachTime) {
  storage.put_lease(storage.host(1, "alpha", 3, true));
  storage.fake_locks.held = {1};
  EXPECT_EQ(state_of(1), HostState::kAlive);
  storage.fake_locks.held.clear();
  EXPECT_EQ(state_of(1), HostState::kDead);
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(Watching, ALeaseThatStaysDamagedCostsNoMoreWaiting) {
  storage.block(storage.geometry().lease(1))[200] ^= std::byte{1};
  EXPECT_EQ(state_of(1), HostState::kUnreadable);
  clock.slept = 0;
  clock.now += 100 * kMillisecond;
  EXPECT_EQ(state_of(1), HostState::kUnreadable);
  EXPECT_EQ(clock.slept, 0);
  storage.put_lease(storage.host(1, "alpha", 3, true));
  storage.fake_locks.held = {1};
  EXPECT_EQ(state_of(1), HostState::kAlive);
}

}  // namespace
}  // namespace stp
