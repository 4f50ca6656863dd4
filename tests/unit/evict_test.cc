#include "stp/evict.h"

#include <random>

#include "tests/unit/memory_storage.h"

namespace stp {
namespace {

class SeededRandom final : public Random {
 public:
  std::uint64_t next() override { return engine_(); }

 private:
  std::mt19937_64 engine_{3};
};

struct Evict : ::testing::Test {
  testing::MemoryStorage storage;
  testing::ManualClock clock;
  SeededRandom random;
  const Geometry& g = storage.geometry();

  Result<Evicted> evict(const char* host) {
    EvictRequest request;
    request.host = host;
    request.clock = clock.clock();
    return evict_host(storage, random, request);
  }
  void expect_refused(const Result<Evicted>& result, int code, std::string_view words) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, code);
    EXPECT_NE(result.error().text.find(words), std::string::npos) << result.error().text;
    EXPECT_EQ(storage.writes, 0);
  }
};

TEST_F(Evict, FreesTheSlotOfASilentHostAfterTDead) {
  storage.put_lease(storage.host(1, "alpha", 7));
  const auto evicted = evict("Alpha");
  ASSERT_TRUE(evicted) << evicted.error().text;
  EXPECT_GE(clock.slept, 10 * kSecond);
  const Lease lease = storage.lease(1);
  EXPECT_EQ(lease.state, LeaseState::kFree);
  EXPECT_EQ(lease.name, "");
  EXPECT_GT(lease.owner.incarnation, 7u);
  EXPECT_LE(lease.owner.incarnation, 7u + 1 + 65536);
  EXPECT_EQ(lease.owner.incarnation, evicted->incarnation);
}

TEST_F(Evict, NeverAHostWhoseLeaseChanges) {
  storage.put_lease(storage.host(1, "alpha", 7));
  clock.on_sleep = [&] {
    if (clock.slept < 9 * kSecond) return;  // it was only slow
    Lease l = storage.lease(1);
    ++l.beat;
    storage.put_lease(l);
  };
  expect_refused(evict("alpha"), EBUSY, "alive");
}

TEST_F(Evict, NeverAHostWhoseLockIsHeldHere) {
  storage.put_lease(storage.host(1, "alpha", 7, true));
  storage.fake_locks.held = {1};
  expect_refused(evict("alpha"), EBUSY, "process 99");
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(Evict, AFreeLockOnItsOwnKernelNeedsNoWaiting) {
  storage.put_lease(storage.host(1, "alpha", 7, true));
  EXPECT_TRUE(evict("alpha"));
  EXPECT_EQ(clock.slept, 0);
}

TEST_F(Evict, AFreeLockSaysNothingAboutAnotherKernel) {
  storage.put_lease(storage.host(1, "alpha", 7, false));
  EXPECT_TRUE(evict("alpha"));
  EXPECT_GE(clock.slept, 10 * kSecond);
}

TEST_F(Evict, ASlotKeptForAHostThatLeftIsFreedAtOnce) {
  storage.put_lease(testing::MemoryStorage::free_lease(2, 5, "gamma"));
  EXPECT_TRUE(evict("gamma"));
  EXPECT_EQ(clock.slept, 0);
  EXPECT_EQ(storage.lease(2).name, "");
  EXPECT_GT(storage.lease(2).owner.incarnation, 5u);
}

TEST_F(Evict, AHostThatClaimsItsSlotBackAtTheLastMomentKeepsIt) {
  storage.put_lease(testing::MemoryStorage::free_lease(2, 5, "gamma"));
  int lease_reads = 0;
  storage.before_read = [&](std::uint64_t first) {
    if (first == g.lease(2) && ++lease_reads == 2) storage.put_lease(storage.host(2, "gamma", 6));
  };
  expect_refused(evict("gamma"), EBUSY, "alive");
}

TEST_F(Evict, TimeWithoutReadsDoesNotCount) {
  storage.put_lease(storage.host(1, "alpha", 7));
  clock.on_sleep = [&] { storage.unreadable = clock.slept > 2 * kSecond && clock.slept < 30 * kSecond ? g.lease(1) : UINT64_MAX; };
  EXPECT_TRUE(evict("alpha"));
  EXPECT_GE(clock.slept, 37 * kSecond);
}

TEST_F(Evict, AStorageThatStaysUnreadableEndsTheWait) {
  storage.put_lease(storage.host(1, "alpha", 7));
  clock.on_sleep = [&] { storage.unreadable = g.lease(1); };
  expect_refused(evict("alpha"), EIO, "Input/output error");
}

TEST_F(Evict, ASuspendedMachineHasNotWatched) {
  storage.put_lease(storage.host(1, "alpha", 7));
  bool suspended = false;
  clock.on_sleep = [&] {
    if (!suspended) clock.now += 3600 * kSecond;
    suspended = true;
  };
  EXPECT_TRUE(evict("alpha"));
  EXPECT_GE(clock.slept, 9 * kSecond);
}

TEST_F(Evict, AnUnreadableLeaseIsFreedAboveEveryIncarnationThatIsKnown) {
  Lease beta = storage.host(2, "beta", 3);
  beta.seen[1] = {400, 1, Seen::kAlive};
  storage.put_lease(beta);
  Gate gate{.sender = {.slot = 1, .incarnation = 500, .nonce = 1}, .receiver = {.slot = 2, .incarnation = 3, .nonce = 1}, .sequence = 1};
  encode_gate(storage.block(g.gate(2, 1)), gate, golden::uuid(), g);
  storage.block(g.lease(1))[0] = std::byte{0xff};
  const auto evicted = evict("slot:1");
  ASSERT_TRUE(evicted) << evicted.error().text;
  EXPECT_GT(storage.lease(1).owner.incarnation, 500u);
  EXPECT_EQ(storage.lease(1).state, LeaseState::kFree);
}

TEST_F(Evict, AnIncarnationThatCanNotGrowIsRefused) {
  storage.put_lease(storage.host(1, "alpha", UINT64_MAX, true));
  expect_refused(evict("alpha"), EUCLEAN, "can not grow");
}

TEST_F(Evict, SomebodyElsesWriteAtTheSameMomentIsNoticed) {
  storage.put_lease(storage.host(1, "alpha", 7, true));
  storage.after_write = [&](std::uint64_t) { storage.put_lease(storage.host(1, "alpha", 9, true)); };
  const auto evicted = evict("alpha");
  ASSERT_FALSE(evicted);
  EXPECT_NE(evicted.error().text.find("at the same moment"), std::string::npos);
}

TEST_F(Evict, ADiskThatFailsAtAnyOfItsReadsIsSaid) {
  int failed = 0;
  for (int broken = 0;; ++broken) {
    storage.put_lease(storage.host(1, "alpha", 7, true));
    int reads = 0;
    storage.unreadable = broken == 0 ? g.lease(1) : UINT64_MAX;
    storage.before_read = [&](std::uint64_t) { storage.unreadable = ++reads == broken ? g.lease(1) : UINT64_MAX; };
    const auto evicted = evict("alpha");
    if (evicted) break;
    ++failed;
    EXPECT_EQ(evicted.error().code, EIO) << evicted.error().text;
  }
  EXPECT_EQ(failed, 4) << "looked for, read, looked at again, read back";
}

TEST_F(Evict, AnUnreadableLeaseIsFreedWhateverElseCanNotBeRead) {
  storage.block(g.lease(1))[0] = std::byte{0xff};
  storage.before_read = [&](std::uint64_t first) { storage.unreadable = first == g.lease(1) && clock.slept > 9 * kSecond ? g.gate(2, 1) : storage.unreadable; };
  const auto evicted = evict("slot:1");
  ASSERT_TRUE(evicted) << evicted.error().text;
  EXPECT_EQ(evicted->name, "");
  EXPECT_EQ(storage.lease(1).state, LeaseState::kFree);
}

TEST_F(Evict, TellsHowLongItHasWatched) {
  storage.put_lease(storage.host(1, "alpha", 7));
  Nanos last = 0, all = 0;
  EvictRequest request;
  request.host = "alpha";
  request.clock = clock.clock();
  request.progress = [&](Nanos watched, Nanos needed) {
    EXPECT_GE(watched, last);
    last = watched;
    all = needed;
  };
  EXPECT_TRUE(evict_host(storage, random, request));
  EXPECT_EQ(all, 10 * kSecond);
  EXPECT_EQ(last, all);
}

TEST_F(Evict, AHostThatIsThereWithoutANameIsNamedByItsSlot) {
  storage.put_lease(storage.host(1, "", 7, true));
  storage.fake_locks.held = {1};
  expect_refused(evict("slot:1"), EBUSY, "slot 1 is alive");
}

TEST_F(Evict, WithoutLocksItWatches) {
  storage.fake_locks.usable_ = false;
  storage.put_lease(storage.host(1, "alpha", 7, true));
  EXPECT_TRUE(evict("alpha"));
  EXPECT_GE(clock.slept, 10 * kSecond);
}

TEST_F(Evict, RefusesWhatIsNotThere) {
  expect_refused(evict("alpha"), ENOENT, "alpha");
  expect_refused(evict("slot:0"), ENOENT, "free already");
  expect_refused(evict("slot:4"), EINVAL, "slot:0 to slot:3");
  expect_refused(evict("slot:x"), EINVAL, "slot");
  expect_refused(evict("not a name"), EINVAL, "neither");
}

TEST_F(Evict, TwoSlotsOfOneNameNeedTheSlotsNumber) {
  storage.put_lease(storage.host(0, "alpha", 7, true));
  storage.put_lease(storage.host(2, "alpha", 7, true));
  expect_refused(evict("alpha"), EEXIST, "slot:2");
  EXPECT_TRUE(evict("slot:2"));
  EXPECT_EQ(storage.lease(0).state, LeaseState::kOwned);
}

}  // namespace
}  // namespace stp
