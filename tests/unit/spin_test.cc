#include "stp/spin.h"

#include <gtest/gtest.h>

namespace stp {
namespace {

constexpr Nanos kMoment = 20 * kMicrosecond;

bool never(int& looks) {
  ++looks;
  return false;
}

TEST(Spin, ends_with_the_first_look_that_says_so) {
  Spin spin;
  int looks = 0;
  EXPECT_TRUE(spin.run(kNever, kSecond, [&] { return ++looks == 2; }));
  EXPECT_EQ(looks, 2);  // the third is only made where nobody else wants the processor
}

TEST(Spin, does_not_look_at_all_where_it_may_not) {
  Spin spin;
  int looks = 0;
  EXPECT_FALSE(spin.run(kNever, 0, [&] { return never(looks); }));
  EXPECT_EQ(looks, 0);
}

TEST(Spin, rests_after_a_bet_that_was_lost_and_longer_after_each) {
  Spin spin;
  // Each rest is twice the last one, so that after some of them no delay of this test outlasts it.
  for (int lost = 0; lost < 12; ++lost) {
    int looks = 0;
    const Nanos end = boottime_now() + kSecond;
    while (looks == 0 && boottime_now() < end) EXPECT_FALSE(spin.run(kNever, kMoment, [&] { return never(looks); }));
    ASSERT_GT(looks, 0) << "it rests for good";
  }
  const Nanos before = boottime_now();
  int looks = 0;
  EXPECT_FALSE(spin.run(kNever, kMoment, [&] { return never(looks); }));
  if (boottime_now() - before < kMillisecond) {
    EXPECT_EQ(looks, 0);
  }
}

TEST(SpinningThread, is_one_of_as_many_as_may) {
  std::atomic<int> count{0};
  SpinningThread first(count, 2);
  EXPECT_TRUE(first);
  {
    const SpinningThread second(count, 2), third(count, 2);
    EXPECT_TRUE(second);
    EXPECT_FALSE(third);
  }
  const SpinningThread fourth(count, 2);
  EXPECT_TRUE(fourth);
  first.leave();
  first.leave();
  EXPECT_EQ(count, 1);
  const SpinningThread fifth(count, 2);
  EXPECT_TRUE(fifth);
  const SpinningThread on_a_single_core(count, 0);
  EXPECT_FALSE(on_a_single_core);
}

}  // namespace
}  // namespace stp
