#include "tools/membership_words.h"

#include <gtest/gtest.h>

#include <string>

namespace stp {
namespace {

Self member(std::uint64_t incarnation, std::string ended = {}) {
  Self self;
  self.state = MemberState::kMember;
  self.identity = {0, incarnation, 77};
  self.name = "alpha";
  self.ended = std::move(ended);
  return self;
}

Self in_state(MemberState state, std::string why, std::string ended = {}) {
  Self self;
  self.state = state;
  self.why = std::move(why);
  self.ended = std::move(ended);
  return self;
}

bool nothing(const MembershipWords::News& news) { return news.ended.empty() && news.back.empty() && news.stopped.empty(); }

TEST(MembershipWords, NothingIsSaidWhileNothingChanges) {
  MembershipWords words("/dev/disk", member(5));
  EXPECT_TRUE(nothing(words.look(member(5))));
  EXPECT_TRUE(nothing(words.look(in_state(MemberState::kLeaving, {}))));
}

TEST(MembershipWords, TheEndOfALifeAndTheNextOneAreToldOfOnceEach) {
  MembershipWords words("/dev/disk", member(5));
  const auto fenced = words.look(in_state(MemberState::kFenced, "the lease is old"));
  EXPECT_EQ(fenced.ended, "\"/dev/disk\": the lease is old");
  EXPECT_TRUE(fenced.back.empty());
  EXPECT_TRUE(nothing(words.look(in_state(MemberState::kFenced, "the lease is old"))));
  EXPECT_TRUE(nothing(words.look(in_state(MemberState::kJoining, "claims slot 0", "the lease is old"))));
  const auto back = words.look(member(6, "the lease is old"));
  EXPECT_TRUE(back.ended.empty());
  EXPECT_EQ(back.back, "\"/dev/disk\": alpha is back, as incarnation 6");
  EXPECT_TRUE(nothing(words.look(member(6, "the lease is old"))));
}

TEST(MembershipWords, ALifeThatEndedBetweenTwoLooksIsToldOf) {
  MembershipWords words("/dev/disk", member(5));
  const auto news = words.look(member(6, "called dead"));
  EXPECT_EQ(news.ended, "\"/dev/disk\": called dead");
  EXPECT_EQ(news.back, "\"/dev/disk\": alpha is back, as incarnation 6");
  EXPECT_EQ(words.look(in_state(MemberState::kJoining, {}, "called dead again")).ended, "\"/dev/disk\": called dead again");
}

TEST(MembershipWords, AHostThatStoppedForGoodIsToldOfOnce) {
  MembershipWords words("/dev/disk", member(5));
  EXPECT_NE(words.look(in_state(MemberState::kStopped, "stopped for good")).stopped.find("stopped for good"), std::string::npos);
  EXPECT_TRUE(nothing(words.look(in_state(MemberState::kStopped, "stopped for good"))));
}

}  // namespace
}  // namespace stp
