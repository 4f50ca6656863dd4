// The bugs planted in membership do harm that can be seen, and only while they are switched on: otherwise the
// simulator would look for nothing.
#include <gtest/gtest.h>

#include <cerrno>

#include "stp/plant.h"
#include "tests/unit/membership_world.h"

namespace stp {
namespace {

// The body runs twice: without the plant the harm must not show, with it it must.
template <class Harm>
void expect_harm_only_when_planted(Plant plant, Harm harm) {
  active_plant = Plant::kNone;
  EXPECT_FALSE(harm());
  active_plant = plant;
  EXPECT_TRUE(harm());
  active_plant = Plant::kNone;
}

TEST(MembershipPlants, SkipReadBackGivesOneSlotTwoOwners) {
  expect_harm_only_when_planted(Plant::kSkipReadBack, [] {
    World w;
    FakeHost& a = w.add("alpha", 1);
    FakeHost& b = w.add("beta", 2);
    return w.run_until(
        [&] {
          const Nanos now = w.disk.now();
          return a.board.lease_good(now) && b.board.lease_good(now) && a.self().identity.slot == b.self().identity.slot;
        },
        2 * w.dead());
  });
}

TEST(MembershipPlants, IgnoreForeignOwnerBeatsOverAnotherLife) {
  expect_harm_only_when_planted(Plant::kIgnoreForeignOwner, [] {
    World w;
    FakeHost& a = w.add("alpha", 1);
    EXPECT_TRUE(w.joins(a, 2 * w.join()));
    const Lease other = make_lease({0, a.self().identity.incarnation + 9, 9}, LeaseState::kOwned, "alpha");
    w.run_for(30 * kMillisecond);
    w.put(other);
    w.run_for(kSecond);
    return w.lease(0) != other;
  });
}

TEST(MembershipPlants, CountStalledTimeConvictsAHostForMyOwnStall) {
  expect_harm_only_when_planted(Plant::kCountStalledTime, [] {
    World w;
    FakeHost& a = w.add("alpha", 1);
    EXPECT_TRUE(w.joins(a, 2 * w.join()));
    FakeHost& b = w.add("beta", 2);
    EXPECT_TRUE(w.joins(b, 2 * w.join()));
    w.run_for(kSecond);
    // One path comes back a little earlier than the other.
    const Nanos end = w.disk.now() + 5 * kSecond;
    a.medium.fate = [&w, end](const IoRequest&) { return FakeFate{.complete_after = std::max(end - w.disk.now(), kMillisecond)}; };
    b.medium.fate = [&w, end](const IoRequest&) {
      return FakeFate{.complete_after = std::max(end + 300 * kMillisecond - w.disk.now(), kMillisecond)};
    };
    return w.run_until([&] { return a.peer(1).state == PeerState::kDead; }, 8 * kSecond);
  });
}

TEST(MembershipPlants, ReuseIncarnationComesBackAsWhoDied) {
  expect_harm_only_when_planted(Plant::kReuseIncarnation, [] {
    World w;
    FakeHost& a = w.add("alpha", 1);
    EXPECT_TRUE(w.joins(a, 2 * w.join()));
    const Identity first = a.self().identity;
    w.run_for(30 * kMillisecond);
    w.kill(a);
    FakeHost& again = w.add("alpha", 1);
    EXPECT_TRUE(w.joins(again, 50 * kMillisecond));
    return again.self().identity == first;
  });
}

}  // namespace
}  // namespace stp
