// Membership: joining, keeping the lease, leaving, coming back. Judging others: peer_watch_test.cc.
#include "stp/membership.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/membership_world.h"

namespace stp {
namespace {

TEST(Membership, JoinOnEmptyStorageTakesAJoinTime) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  w.run_for(w.join() - kMillisecond);
  EXPECT_EQ(a.state(), MemberState::kJoining);
  EXPECT_NE(a.self().why.find("claims slot 0"), std::string::npos) << a.self().why;
  ASSERT_TRUE(w.joins(a, 100 * kMillisecond));
  EXPECT_EQ(a.self().name, "alpha");
  EXPECT_EQ(a.self().identity.slot, 0u);
  EXPECT_GE(a.self().identity.incarnation, 1u);
  EXPECT_NE(a.self().identity.nonce, 0u);
  EXPECT_TRUE(a.board.lease_good(w.disk.now()));
  EXPECT_EQ(w.lease(0).state, LeaseState::kOwned);
  EXPECT_EQ(a.board.view().slots_in_use, 1u);
}

TEST(Membership, SlotsAreGivenOutDensely) {
  World w;
  for (unsigned i = 0; i < 3; ++i) {
    FakeHost& h = w.add("host" + std::to_string(i), i + 1);
    ASSERT_TRUE(w.joins(h, 2 * w.join()));
    EXPECT_EQ(h.self().identity.slot, i);
  }
}

TEST(Membership, BeatsWhileTheEngineProgressesAndStopsWhenItDoesNot) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const auto beat = w.lease(0).beat;
  w.run_for(kSecond);
  EXPECT_GE(w.lease(0).beat, beat + 8);
  EXPECT_LE(w.lease(0).beat, beat + 11);
  a.engine_stuck = true;
  a.quiesces = false;
  EXPECT_TRUE(w.run_until([&] { return a.state() == MemberState::kFenced; }, 2 * w.fence()));
}

TEST(Membership, FullStorageIsRefusedAndNamesTheHolders) {
  World w(2);
  w.put(make_lease({0, 5, 1}, LeaseState::kFree, "beta"));
  w.put(make_lease({1, 6, 1}, LeaseState::kFree, "gamma"));
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, w.dead()));
  EXPECT_EQ(a.self().error_code, ENOSPC);
  EXPECT_NE(a.self().why.find("kept for gamma"), std::string::npos) << a.self().why;
  EXPECT_NE(a.self().why.find("stp evict"), std::string::npos);
}

TEST(Membership, RestartOnTheSameKernelIsImmediate) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity first = a.self().identity;
  w.kill(a);
  FakeHost& again = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(again, 20 * kMillisecond));
  EXPECT_EQ(again.self().identity.slot, first.slot);
  EXPECT_GT(again.self().identity.incarnation, first.incarnation);
  EXPECT_NE(again.self().identity.nonce, first.nonce);
}

// A member of kernel 1 that was killed, and whose io_uring is not gone yet: its slot stays locked.
Slot killed_but_locked(World& w, const std::string& name) {
  FakeHost& host = w.add(name, 1);
  EXPECT_TRUE(w.joins(host, 2 * w.join()));
  const Slot slot = host.self().identity.slot;
  w.kill(host);
  w.tables[1][slot] = &w;
  return slot;
}

TEST(Membership, RestartKeepsItsNameAlthoughTheKernelStillEndsTheKilledOne) {
  World w;
  const Slot slot = killed_but_locked(w, "alpha");
  const Nanos ends = 2 * Nanos{w.superblock.timing.beat_ms} * kMillisecond;
  w.disk.at(w.disk.now() + ends, [&w, slot] { w.tables[1].erase(slot); });
  FakeHost& again = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(again, ends + 100 * kMillisecond));
  EXPECT_EQ(again.self().name, "alpha");
  EXPECT_EQ(again.self().identity.slot, slot);
}

// The claim of the first one is on the disk, and its kernel has not ended its I/O yet.
TEST(Membership, RestartKeepsItsNameAlthoughTheKernelStillEndsTheKilledClaimant) {
  World w(2);
  FakeHost& other = w.add("beta", 2);  // so that there is nowhere else to go
  ASSERT_TRUE(w.joins(other, 2 * w.join()));
  const Slot slot = 1 - other.self().identity.slot;
  FakeHost& first = w.add("alpha", 1);
  w.run_until(w.disk.now() + 20 * kMillisecond);
  ASSERT_EQ(first.state(), MemberState::kJoining);
  w.kill(first);
  w.tables[1][slot] = &w;
  w.disk.at(w.disk.now() + 2 * Nanos{w.superblock.timing.beat_ms} * kMillisecond, [&w, slot] { w.tables[1].erase(slot); });
  FakeHost& again = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(again, 2 * w.join())) << again.self().why;
  EXPECT_EQ(again.self().name, "alpha");
  EXPECT_EQ(again.self().identity.slot, slot);
}

// Two programs of a host that start together may both claim for its name, and who loses be killed before it takes that back.
Slot leave_claim_behind(World& w, const FakeHost& owner, std::uint8_t boot_changed_by) {
  const Slot slot = 1 - owner.self().identity.slot;
  Lease claim = w.lease(owner.self().identity.slot);
  claim.owner = {slot, 77, 78};
  claim.state = LeaseState::kClaim;
  claim.boot_id[0] ^= std::byte{boot_changed_by};
  w.put(claim);
  return slot;
}

TEST(Membership, AClaimThatAKilledProgramLeftUnderTheNameOfALivingOneKeepsNobodyOut) {
  for (const std::uint8_t boot_changed_by : {std::uint8_t{0}, std::uint8_t{1}}) {
    World w(2);
    FakeHost& first = w.add("alpha", 1);
    ASSERT_TRUE(w.joins(first, 2 * w.join()));
    const Slot slot = leave_claim_behind(w, first, boot_changed_by);
    FakeHost& next = w.add("alpha", 1);
    ASSERT_TRUE(w.joins(next, boot_changed_by == 0 ? 2 * w.join() : 5 * w.dead())) << next.self().why;
    EXPECT_EQ(next.self().name, "alpha~2");
    EXPECT_EQ(next.self().identity.slot, slot);
    EXPECT_GT(next.self().identity.incarnation, 77u);
    EXPECT_EQ(first.state(), MemberState::kMember);
  }
}

TEST(Membership, AClaimWhoseProgramLivesIsNotTaken) {
  World w(2);
  FakeHost& first = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(first, 2 * w.join()));
  const Slot slot = leave_claim_behind(w, first, 0);
  w.tables[1][slot] = &w;  // its lock is held
  FakeHost& next = w.add("alpha", 1);
  ASSERT_TRUE(w.run_until([&] { return next.state() == MemberState::kStopped; }, 5 * w.dead())) << next.self().why;
  EXPECT_EQ(next.self().error_code, ENOSPC);
  EXPECT_EQ(w.lease(slot).owner.incarnation, 77u);
}

TEST(Membership, WhoHoldsTheLockAndHangsKeepsItsName) {
  World w;
  (void)killed_but_locked(w, "alpha");  // for ever
  FakeHost& b = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(b, 2 * w.join()));
  EXPECT_EQ(b.self().name, "alpha~2");
}

TEST(Membership, SecondProgramOfAHostBecomesTheSecondInstance) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  FakeHost& b = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(b, 2 * w.join()));
  EXPECT_EQ(b.self().name, "alpha~2");
  EXPECT_EQ(b.self().identity.slot, 1u);
}

TEST(Membership, ProgramsOfOneHostThatStartTogetherGetDifferentNames) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  FakeHost& b = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, w.detection()));
  ASSERT_TRUE(w.joins(b, w.detection()));
  EXPECT_NE(a.self().name, b.self().name);
  EXPECT_NE(a.self().identity.slot, b.self().identity.slot);
  EXPECT_LE(w.hosts.front()->board.view().slots_in_use, 2u);
}

TEST(Membership, WithoutLocksALivingProgramOfThisHostIsLeftAlone) {
  World w;
  FakeHost& a = w.add("alpha", 1, false);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  FakeHost& b = w.add("alpha", 1, false);
  ASSERT_TRUE(w.joins(b, 2 * w.detection()));
  EXPECT_EQ(b.self().name, "alpha~2");
  EXPECT_EQ(a.state(), MemberState::kMember);
}

TEST(Membership, WithoutLocksADeadSlotIsTakenAfterItsSilence) {
  World w;
  FakeHost& a = w.add("alpha", 1, false);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const auto incarnation = a.self().identity.incarnation;
  w.kill(a);
  FakeHost& b = w.add("alpha", 1, false);
  EXPECT_FALSE(w.joins(b, 2 * w.dead()));
  ASSERT_TRUE(w.joins(b, w.dead()));
  EXPECT_EQ(b.self().identity.slot, 0u);
  EXPECT_GT(b.self().identity.incarnation, incarnation);
}

TEST(Membership, NameInUseOnAnotherMachineIsRefused) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  FakeHost& b = w.add("alpha", 2);
  ASSERT_TRUE(w.run_until([&] { return b.state() == MemberState::kStopped; }, w.dead()));
  EXPECT_EQ(b.self().error_code, EADDRINUSE);
  EXPECT_NE(b.self().why.find("host name \"alpha\" is in use by another machine"), std::string::npos) << b.self().why;
  EXPECT_EQ(a.state(), MemberState::kMember);
}

TEST(Membership, MachineThatWasRebootedComesBackAfterTheSilence) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  w.kill(a);
  FakeHost& b = w.add("alpha", 2);
  ASSERT_TRUE(w.joins(b, 3 * w.dead()));
  EXPECT_EQ(b.self().identity.slot, 0u);
  EXPECT_EQ(b.self().name, "alpha");
}

TEST(Membership, LeftoverBeatThatLandsLateIsNotTakenForALivingHost) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  a.medium.fate = [](const IoRequest& r) { return r.op == IoRequest::Op::kWrite ? FakeFate{.complete_after = kSecond} : FakeFate{}; };
  w.run_for(150 * kMillisecond);
  w.kill(a);
  FakeHost& b = w.add("alpha", 2);
  ASSERT_TRUE(w.joins(b, 4 * w.dead()));
}

TEST(Membership, UnreadableForeignLeaseIsLeftAloneAndHarmless) {
  World w;
  w.damage(0);
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, w.fence() + 2 * w.join()));
  EXPECT_EQ(a.self().identity.slot, 1u);
  EXPECT_EQ(a.board.view().slots_in_use, 2u);
}

TEST(Membership, BadBlockInTheLeasesDoesNotHideTheOthers) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  const std::uint64_t bad = w.superblock.geometry.lease(0);
  a.medium.fate = [bad](const IoRequest& r) { return FakeFate{.error = r.block <= bad && bad < r.block + r.blocks ? EIO : 0}; };
  ASSERT_TRUE(w.joins(a, w.dead() + 2 * w.join()));
  EXPECT_EQ(a.self().identity.slot, 1u);
}

TEST(Membership, StorageThatCannotBeReadIsGivenUpInWords) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  a.medium.fate = [](const IoRequest&) { return FakeFate{.error = EIO}; };
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 2 * w.dead()));
  EXPECT_EQ(a.self().error_code, EIO);
  EXPECT_NE(a.self().why.find("could not be read"), std::string::npos) << a.self().why;
}

TEST(Membership, ClaimThatLandsTooLateIsNotBuiltOn) {
  World w;
  FakeHost& a = w.add("alpha", 1, false);
  bool first = true;
  a.medium.fate = [&](const IoRequest& r) {
    if (r.op == IoRequest::Op::kWrite && std::exchange(first, false)) return FakeFate{.complete_after = 250 * kMillisecond};
    return FakeFate{};
  };
  w.run_for(250 * kMillisecond + w.join());
  EXPECT_EQ(a.state(), MemberState::kJoining);
  EXPECT_TRUE(w.joins(a, 3 * w.dead()));
}

// Rivals of different machines, random delays up to the bounds: never two owners of one slot, nobody is left hanging.
TEST(Membership, RivalsForOneSlotNeverBothOwnIt) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    World w(4);
    w.seed = seed * 1000;
    auto random = std::make_shared<SeededRandom>(seed);
    const unsigned rivals = 2 + static_cast<unsigned>(random->below(2));
    const bool one_name = random->below(2) == 0;
    for (unsigned i = 0; i < rivals; ++i) {
      FakeHost& h = w.add(one_name ? "alpha" : "host" + std::to_string(i), 1 + i);
      h.medium.fate = [random](const IoRequest&) {
        return FakeFate{.complete_after = static_cast<Nanos>(random->below(150)) * kMillisecond};
      };
      h.due = static_cast<Nanos>(random->below(200)) * kMillisecond;
    }
    for (int tick = 0; tick < 3000; ++tick) {
      w.run_for(10 * kMillisecond);
      std::map<Slot, int> owners;
      std::map<std::string, int> names;
      for (const auto& h : w.hosts) {
        if (!h->board.lease_good(w.disk.now())) continue;
        EXPECT_EQ(++owners[h->self().identity.slot], 1) << "seed " << seed;
        EXPECT_EQ(++names[h->self().name], 1) << "seed " << seed;
      }
    }
    int members = 0;
    for (const auto& h : w.hosts) {
      members += h->state() == MemberState::kMember;
      EXPECT_TRUE(h->state() == MemberState::kMember || h->state() == MemberState::kStopped) << "seed " << seed << " " << h->self().why;
    }
    EXPECT_EQ(members, one_name ? 1 : static_cast<int>(rivals)) << "seed " << seed;
  }
}

TEST(Membership, OlderBeatThatLandsLateIsOverwritten) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Lease old = w.lease(0);
  w.run_for(kSecond);
  w.put(old);
  ASSERT_TRUE(w.run_until([&] { return w.lease(0).beat > old.beat + 5; }, 200 * kMillisecond));
  EXPECT_EQ(a.state(), MemberState::kMember);
}

TEST(Membership, LateWritesOfEarlierLivesAndDamageAreOverwritten) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease old = w.lease(0);
  old.owner.incarnation -= 1;
  for (const LeaseState state : {LeaseState::kFree, LeaseState::kClaim, LeaseState::kOwned}) {
    old.state = state;
    w.put(old);
    EXPECT_TRUE(w.run_until([&] { return w.lease(0).owner == a.self().identity; }, 200 * kMillisecond));
  }
  w.damage(0);
  EXPECT_TRUE(w.run_until([&] { return w.lease(0).owner == a.self().identity; }, 200 * kMillisecond));
  EXPECT_EQ(a.state(), MemberState::kMember);
}

TEST(Membership, ClaimOnALivingSlotIsOverwritten) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease rival = w.lease(0);
  rival.owner.incarnation += 100;
  rival.owner.nonce = 99;
  rival.state = LeaseState::kClaim;
  w.put(rival);
  EXPECT_TRUE(w.run_until([&] { return w.lease(0).owner == a.self().identity; }, 200 * kMillisecond));
  EXPECT_EQ(a.state(), MemberState::kMember);
}

TEST(Membership, CloneIsDetectedAndStopsForGood) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease clone = w.lease(0);
  clone.randomness[0] ^= std::byte{1};
  w.put(clone);
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 200 * kMillisecond));
  EXPECT_NE(a.self().why.find("cloned"), std::string::npos) << a.self().why;
  EXPECT_FALSE(a.board.lease_good(w.disk.now()));
  w.put(clone);
  w.run_for(3 * w.dead());
  EXPECT_EQ(w.lease(0), clone) << "a stopped host must not write";
}

TEST(Membership, RollbackIsDetectedByABeatThatIsAheadOfMe) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease ahead = w.lease(0);
  ahead.beat += 1000;
  w.put(ahead);
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 200 * kMillisecond));
  EXPECT_NE(a.self().why.find("snapshot"), std::string::npos) << a.self().why;
}

TEST(Membership, EqualIncarnationWithAnotherNonceStops) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease other = w.lease(0);
  other.owner.nonce += 1;
  w.put(other);
  EXPECT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 200 * kMillisecond));
}

TEST(Membership, StorageFormattedUnderAMemberStopsIt) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Uuid other = w.superblock.uuid;
  other[5] = std::byte{9};
  encode_lease(w.disk.block(w.superblock.geometry.lease(0)), make_lease({0, 0, 0}), other, w.superblock.geometry);
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 200 * kMillisecond));
  EXPECT_NE(a.self().why.find("formatted"), std::string::npos) << a.self().why;
}

TEST(Membership, EvictedWhileAwayStopsInWords) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  w.put(make_lease({0, a.self().identity.incarnation + 1, 0}));
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kStopped; }, 200 * kMillisecond));
  EXPECT_NE(a.self().why.find("evicted"), std::string::npos) << a.self().why;
}

TEST(Membership, FenceAfterAFreezeThenRebirthWithAHigherIncarnation) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity first = a.self().identity;
  a.frozen = true;
  w.run_for(2 * w.fence());
  EXPECT_FALSE(a.board.lease_good(w.disk.now()));
  a.frozen = false;
  a.quiesces = false;
  w.run_for(10 * kMillisecond);
  ASSERT_EQ(a.state(), MemberState::kFenced);
  EXPECT_EQ(a.self().reason, Reason::kFenced);
  w.run_for(3 * w.dead());
  EXPECT_EQ(a.state(), MemberState::kFenced) << "comes back only when its engine has let go";
  EXPECT_FALSE(a.board.lease_good(w.disk.now())) << "expiry is one-way";
  a.board.note_quiesced(first.incarnation);
  ASSERT_TRUE(w.joins(a, 50 * kMillisecond));
  EXPECT_EQ(a.self().identity.slot, first.slot);
  EXPECT_GT(a.self().identity.incarnation, first.incarnation);
  EXPECT_NE(a.self().ended.find("this machine slept"), std::string::npos) << "the new life knows why there is one: " << a.self().ended;
}

// It stands still until its lease has run out, and finds this one in its place.
void wake_up_to(World& w, FakeHost& host, const Lease& found) {
  host.frozen = true;
  w.run_for(2 * w.fence());
  w.put(found);
  host.frozen = false;
}

TEST(Membership, FencedHostWhoseSlotWasTakenJoinsAnew) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  Lease other = make_lease({0, a.self().identity.incarnation + 7, 5}, LeaseState::kOwned, "beta");
  wake_up_to(w, a, other);
  w.run_for(20 * kMillisecond);
  ASSERT_TRUE(w.joins(a, 3 * w.join()));
  EXPECT_EQ(a.self().identity.slot, 1u);
  EXPECT_EQ(w.lease(0), other);
}

// Who claimed the slot before he could see my last life has a lower incarnation, and lives: found by the model in tests/model.
TEST(Membership, FencedHostLeavesItsSlotToARivalOfALowerIncarnationWhoBeats) {
  World w;
  FakeHost& a = w.add("alpha", 1, false);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity mine = a.self().identity;
  Lease rival = make_lease({mine.slot, mine.incarnation - 1, mine.nonce + 1}, LeaseState::kOwned, "alpha");
  rival.boot_id[0] = std::byte{9};
  wake_up_to(w, a, rival);
  for (const Nanos end = w.disk.now() + 2 * w.dead(); w.disk.now() < end; w.run_for(w.superblock.timing.beat_ms * kMillisecond)) {
    ASSERT_EQ(w.lease(mine.slot).owner, rival.owner) << "two owners of one slot";
    ++rival.beat;
    w.put(rival);
  }
  EXPECT_EQ(a.state(), MemberState::kStopped);
  EXPECT_EQ(a.self().error_code, EADDRINUSE) << a.self().why;
}

TEST(Membership, FencedHostTakesItsSlotBackFromALateWriteOfAnEarlierLife) {
  World w;
  FakeHost& a = w.add("alpha", 1, false);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity mine = a.self().identity;
  wake_up_to(w, a, make_lease({mine.slot, mine.incarnation - 1, mine.nonce + 1}, LeaseState::kOwned, "alpha"));
  w.run_for(20 * kMillisecond);
  ASSERT_NE(a.state(), MemberState::kMember);
  ASSERT_TRUE(w.joins(a, 3 * w.dead())) << a.self().why;
  EXPECT_EQ(a.self().identity.slot, mine.slot);
  EXPECT_GT(a.self().identity.incarnation, mine.incarnation);
}

TEST(Membership, RefusedIncarnationIsFencedAndComesBack) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity first = a.self().identity;
  a.board.want_rebirth(first.incarnation);
  w.run_for(60 * kMillisecond);
  ASSERT_TRUE(w.joins(a, 100 * kMillisecond));
  EXPECT_GT(a.self().identity.incarnation, first.incarnation);
}

TEST(Membership, LeavesCleanlyAndKeepsTheNameInTheSlot) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const Identity me = a.self().identity;
  a.quiesces = false;
  a.board.want_leave();
  w.run_for(100 * kMillisecond);
  EXPECT_EQ(a.state(), MemberState::kLeaving);
  EXPECT_EQ(w.lease(0).state, LeaseState::kOwned) << "not free before the engine has let go";
  a.board.note_quiesced(me.incarnation);
  ASSERT_TRUE(w.run_until([&] { return a.state() == MemberState::kLeft; }, 50 * kMillisecond));
  EXPECT_EQ(w.lease(0).state, LeaseState::kFree);
  EXPECT_EQ(w.lease(0).name, "alpha");
  EXPECT_EQ(w.lease(0).owner, me);
  w.run_for(kSecond);
  EXPECT_TRUE(w.tables[1].empty()) << "the lock is let go";
  EXPECT_EQ(a.due, kNever);
  FakeHost& again = w.add("alpha", 1);
  EXPECT_TRUE(w.joins(again, 20 * kMillisecond)) << "and comes back at once";
}

TEST(Membership, LeavesWithinABoundWhenTheSlotCannotBeWritten) {
  World w;
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  a.medium.fate = [](const IoRequest& r) { return FakeFate{.error = r.op == IoRequest::Op::kWrite ? EIO : 0}; };
  a.board.want_leave();
  EXPECT_TRUE(w.run_until([&] { return a.state() == MemberState::kLeft; }, 2 * w.fence()));
}

TEST(Membership, IdleHostReadsAndWritesLittle) {
  World w(16, "local");
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  const auto reads = a.medium.reads, writes = a.medium.writes, steps = w.steps;
  w.run_for(10 * kSecond);
  EXPECT_LE(a.medium.reads - reads, 45u);
  EXPECT_LE(a.medium.writes - writes, 21u);
  EXPECT_LE(w.steps - steps, 200u) << "no busy loop";
}

}  // namespace
}  // namespace stp
