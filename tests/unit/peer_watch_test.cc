// Judging others: alive, dead, left, one-way; seen through whole memberships.
#include "stp/peer_watch.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/membership_world.h"

namespace stp {
namespace {

struct Pair {
  World w;
  FakeHost* a;
  FakeHost* b;
  Pair(unsigned machine_a = 1, unsigned machine_b = 2) {
    a = &w.add("alpha", machine_a);
    EXPECT_TRUE(w.joins(*a, 2 * w.join()));
    b = &w.add("beta", machine_b);
    EXPECT_TRUE(w.joins(*b, 2 * w.join()));
    w.run_for(kSecond);
  }
};

TEST(PeerWatch, HostsSeeEachOtherAlive) {
  Pair p;
  const Peer b = p.a->peer(1), a = p.b->peer(0);
  EXPECT_EQ(b.state, PeerState::kAlive);
  EXPECT_EQ(a.state, PeerState::kAlive);
  EXPECT_TRUE(b.sees_me);
  EXPECT_TRUE(a.sees_me);
  EXPECT_FALSE(b.one_way);
  EXPECT_EQ(b.name, "beta");
  EXPECT_EQ(b.identity, p.b->self().identity);
  EXPECT_EQ(p.a->board.view().slots_in_use, 2u);
}

TEST(PeerWatch, DeadPeerIsJudgedWithinTheDetectionBoundAndNotBefore) {
  Pair p;
  p.w.kill(*p.b);
  p.w.run_for(p.w.dead() - 150 * kMillisecond);
  EXPECT_EQ(p.a->peer(1).state, PeerState::kAlive);
  EXPECT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kDead; }, p.w.detection() - p.w.dead() + 150 * kMillisecond));
  EXPECT_TRUE(p.w.run_until([&] { return p.w.lease(0).seen[1].flags == Seen::kRefused; }, 200 * kMillisecond))
      << "the verdict is published";
}

TEST(PeerWatch, PeerOfThisKernelWhoseLockIsFreeIsJudgedAtOnce) {
  Pair p(1, 1);
  EXPECT_TRUE(p.a->peer(1).same_kernel);
  p.w.kill(*p.b);
  EXPECT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kDead; }, 100 * kMillisecond));
}

TEST(PeerWatch, RestartOnThisKernelIsANewLife) {
  Pair p(1, 1);
  const Identity first = p.b->self().identity;
  p.w.kill(*p.b);
  FakeHost& b = p.w.add("beta", 1);
  ASSERT_TRUE(p.w.joins(b, 50 * kMillisecond));
  ASSERT_TRUE(p.w.run_until([&] { return p.a->peer(1).identity == b.self().identity; }, 200 * kMillisecond));
  EXPECT_EQ(p.a->peer(1).state, PeerState::kAlive);
  EXPECT_GT(b.self().identity.incarnation, first.incarnation);
}

TEST(PeerWatch, CleanLeaveIsSeenAsLeft) {
  Pair p(1, 1);
  p.b->board.want_leave();
  ASSERT_TRUE(p.w.run_until([&] { return p.b->state() == MemberState::kLeft; }, kSecond));
  EXPECT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kLeft; }, 200 * kMillisecond));
  p.w.run_for(2 * p.w.detection());
  EXPECT_EQ(p.a->peer(1).state, PeerState::kLeft);
}

TEST(PeerWatch, StorageStallConvictsNobody) {
  Pair p;
  const Nanos end = p.w.disk.now() + 10 * kSecond;
  // Everybody's requests hang until the same moment.
  for (FakeHost* h : {p.a, p.b})
    h->medium.fate = [&w = p.w, end](const IoRequest&) { return FakeFate{.complete_after = std::max(end - w.disk.now(), kMillisecond)}; };
  for (int i = 0; i < 300; ++i) {
    p.w.run_for(50 * kMillisecond);
    EXPECT_NE(p.a->peer(1).state, PeerState::kDead);
    EXPECT_NE(p.b->peer(0).state, PeerState::kDead);
  }
  EXPECT_EQ(p.a->state(), MemberState::kMember) << "came back";
  EXPECT_EQ(p.a->incarnations.size(), 2u) << "its lease had run out meanwhile";
}

TEST(PeerWatch, SilenceDoesNotCountOverFailedReads) {
  Pair p;
  bool broken = true;
  p.a->medium.fate = [&](const IoRequest& r) { return FakeFate{.error = broken && r.op == IoRequest::Op::kRead ? EIO : 0}; };
  p.b->frozen = true;
  p.w.run_for(10 * p.w.dead());
  broken = false;
  p.b->frozen = false;
  p.w.run_for(2 * p.w.dead());
  EXPECT_EQ(p.a->peer(1).state, PeerState::kAlive);
}

TEST(PeerWatch, VerdictIsFinalForAnIncarnation) {
  Pair p;
  const Identity first = p.b->self().identity;
  p.b->frozen = true;
  ASSERT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kDead; }, p.w.detection()));
  Lease beat = p.w.lease(1);
  for (int i = 0; i < 5; ++i) {  // a late write, or a host that does not know yet
    ++beat.beat;
    beat.randomness[0] = std::byte(i);
    p.w.put(beat);
    p.w.run_for(100 * kMillisecond);
    EXPECT_EQ(p.a->peer(1).state, PeerState::kDead);
  }
  p.w.put(make_lease({1, 0, 0}));
  beat.owner.incarnation += 1;
  p.w.put(beat);
  p.w.run_for(100 * kMillisecond);
  EXPECT_EQ(p.a->peer(1).state, PeerState::kAlive);
  EXPECT_NE(p.a->peer(1).identity, first);
}

TEST(PeerWatch, RefusalInALeaseMakesTheRefusedHostComeBackAnew) {
  Pair p;
  const Identity first = p.b->self().identity;
  // B's beats complete and never arrive: B believes itself well, A sees silence.
  p.b->medium.fate = [](const IoRequest& r) { return FakeFate{.lost = r.op == IoRequest::Op::kWrite}; };
  ASSERT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kDead; }, p.w.detection()));
  p.b->medium.fate = {};
  ASSERT_TRUE(
      p.w.run_until([&] { return p.b->state() == MemberState::kMember && p.b->self().identity.incarnation > first.incarnation; }, kSecond));
  EXPECT_TRUE(p.w.run_until([&] { return p.a->peer(1).state == PeerState::kAlive && p.a->peer(1).sees_me; }, kSecond));
}

TEST(PeerWatch, HostThatDoesNotSeeMeIsOneWay) {
  Pair p;
  // C goes on beating, by another hand, without me in its list.
  FakeHost& c = p.w.add("gamma", 3);
  ASSERT_TRUE(p.w.joins(c, 2 * p.w.join()));
  p.w.run_for(kSecond);
  ASSERT_TRUE(p.a->peer(2).sees_me);
  p.w.kill(c);
  Lease lease = p.w.lease(2);
  lease.owner.incarnation += 10;
  lease.seen[0] = {};
  for (int i = 0; i < 40; ++i) {
    ++lease.beat;
    p.w.put(lease);
    p.w.run_for(50 * kMillisecond);
    if (i < 10) {
      EXPECT_FALSE(p.a->peer(2).one_way) << "it needs time to see me";
    }
  }
  EXPECT_TRUE(p.a->peer(2).one_way);
  EXPECT_FALSE(p.a->peer(2).sees_me);
}

TEST(PeerWatch, LeaseThatWasThereBeforeMeMustBeSeenToBeat) {
  World w;
  w.put(make_lease({1, 5, 5}, LeaseState::kOwned, "ghost"));
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  EXPECT_EQ(a.peer(1).state, PeerState::kUnknown);
  EXPECT_EQ(a.peer(1).name, "ghost");
  EXPECT_TRUE(w.run_until([&] { return a.peer(1).state == PeerState::kDead; }, w.detection()));
}

TEST(PeerWatch, OlderBeatsLowerIncarnationsAndForeignNoncesAreIgnored) {
  Pair p;
  p.b->frozen = true;
  p.w.run_for(200 * kMillisecond);
  const Lease last = p.w.lease(1);
  Lease old = last;
  for (int i = 0; i < 40; ++i) {
    old = last;
    if (i % 3 == 0) old.beat -= 2 + static_cast<unsigned>(i % 2);
    if (i % 3 == 1) old.owner.incarnation -= 1, old.beat += 100 + static_cast<unsigned>(i);
    if (i % 3 == 2) old.owner.nonce += 1, old.beat += 100 + static_cast<unsigned>(i);
    p.w.put(old);
    p.w.run_for(50 * kMillisecond);
    EXPECT_EQ(p.a->peer(1).identity, last.owner);
  }
  EXPECT_EQ(p.a->peer(1).state, PeerState::kDead) << "none of that is a sign of life";
}

TEST(PeerWatch, ANudgeBringsTheLookForward) {
  World w(4, "san");
  FakeHost& a = w.add("alpha", 1);
  ASSERT_TRUE(w.joins(a, 2 * w.join()));
  w.run_for(kSecond);
  w.put(make_lease({1, 5, 5}, LeaseState::kOwned, "beta"));
  a.board.nudge();
  a.due = w.disk.now();  // whoever nudges wakes
  EXPECT_TRUE(w.run_until([&] { return a.peer(1).state == PeerState::kAlive; }, 50 * kMillisecond));
}

}  // namespace
}  // namespace stp
