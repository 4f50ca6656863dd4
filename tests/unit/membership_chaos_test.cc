// Memberships under random faults within the bounds of the timings: slow, failing and late writes, stalls, freezes, deaths,
// reboots, clean leaves. Whatever happens: one owner a slot, nobody stops for good without a cause, and once the faults end,
// everybody is there and sees everybody. One seed, one run.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/membership_world.h"

namespace stp {
namespace {

class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : world_(8), random_(seed) {
    world_.seed = seed * 1000 + 1;
    const std::uint64_t count = 2 + random_.below(3);
    for (std::uint64_t i = 0; i < count; ++i) {
      names_.push_back("host" + std::to_string(i));
      machines_.push_back(next_machine_++);
      start(i);
    }
  }

  void rage(Nanos time) {
    for (const Nanos end = world_.disk.now() + time; world_.disk.now() < end;) {
      world_.run_for(10 * kMillisecond);
      check();
      for (std::size_t i = 0; i < names_.size(); ++i) disturb(i);
    }
  }

  void calm(Nanos time) {
    raging_ = false;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      host(i)->frozen = false;
      if (leaving_.erase(i) > 0) restart(i);
    }
    for (const Nanos end = world_.disk.now() + time; world_.disk.now() < end; check()) world_.run_for(10 * kMillisecond);
  }

  void expect_all_see_all() {
    for (const auto& a : world_.hosts) {
      EXPECT_EQ(a->state(), MemberState::kMember) << a->config.host << ": " << a->self().why;
      for (const auto& b : world_.hosts) {
        if (a == b) continue;
        const Peer peer = a->peer(b->self().identity.slot);
        EXPECT_EQ(peer.identity, b->self().identity);
        EXPECT_EQ(peer.state, PeerState::kAlive) << a->config.host << " of " << b->config.host;
        EXPECT_TRUE(peer.sees_me) << b->config.host << " does not see " << a->config.host;
        EXPECT_FALSE(peer.one_way);
      }
    }
  }

 private:
  FakeHost* host(std::size_t i) {
    for (const auto& h : world_.hosts)
      if (h->config.host == names_[i]) return h.get();
    return nullptr;
  }
  void start(std::size_t i) {
    FakeHost& h = world_.add(names_[i], machines_[i], random_.below(4) != 0);
    h.medium.fate = [this](const IoRequest& r) { return fate(r); };
  }
  void restart(std::size_t i) {
    world_.kill(*host(i));
    start(i);
  }
  Nanos millis(std::uint64_t below) { return static_cast<Nanos>(random_.below(below)) * kMillisecond; }

  FakeFate fate(const IoRequest& r) {
    FakeFate f{.complete_after = kMillisecond + millis(20)};
    if (!raging_) return f;
    if (random_.below(50) == 0) f.complete_after = millis(280);
    if (random_.below(40) == 0) f.error = EIO;
    // Completed, or failed, and yet to land: up to Q after its submit.
    if (r.op == IoRequest::Op::kWrite && random_.below(20) == 0) f.land_after = millis(290);
    return f;
  }

  void disturb(std::size_t i) {
    FakeHost& h = *host(i);
    if (leaving_.contains(i)) {
      if (h.state() == MemberState::kLeft && leaving_.erase(i) > 0) restart(i);
      return;
    }
    if (h.frozen) {
      if (random_.below(60) == 0) h.frozen = false;
      return;
    }
    switch (random_.below(400)) {
      case 0:
        h.frozen = true;
        break;
      case 1:
        restart(i);
        break;
      case 2:  // the machine reboots: another kernel
        machines_[i] = next_machine_++;
        restart(i);
        break;
      case 3:
        h.board.want_leave();
        leaving_.insert(i);
        break;
      case 4:
        h.board.nudge();
        break;
      default:
        break;
    }
  }

  void check() {
    if (testing::Test::HasFailure()) return;
    std::map<Slot, const FakeHost*> owners;
    for (const auto& h : world_.hosts) {
      const Self self = h->self();
      ASSERT_NE(self.state, MemberState::kStopped) << self.why;
      if (!h->board.lease_good(world_.disk.now())) continue;
      ASSERT_TRUE(owners.emplace(self.identity.slot, h.get()).second) << "two owners of slot " << self.identity.slot;
    }
  }

  World world_;
  SeededRandom random_;
  std::vector<std::string> names_;
  std::vector<unsigned> machines_;
  std::set<std::size_t> leaving_;
  unsigned next_machine_ = 1;
  bool raging_ = true;
};

TEST(MembershipChaos, OneOwnerASlotAndEverybodyIsThereAfterwards) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chaos chaos(seed);
    chaos.rage(20 * kSecond);
    chaos.calm(10 * kSecond);
    chaos.expect_all_see_all();
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace stp
