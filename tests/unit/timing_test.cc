#include "stp/timing.h"

#include <gtest/gtest.h>

namespace stp {
namespace {

TEST(Timing, ProfilesKeepTheInequalities) {
  for (const char* name : {"local", "san", "fast"}) {
    const auto t = timing_profile(name);
    ASSERT_TRUE(t) << name;
    const auto ok = check_timing(*t);
    EXPECT_TRUE(ok) << name << ": " << ok.error().text;
  }
}

TEST(Timing, DetectsWithinThePromisedTime) {
  EXPECT_LE(timing_profile("local")->detection_ms(), 12749u);
  EXPECT_LE(timing_profile("san")->detection_ms(), 108000u);
  EXPECT_LE(timing_profile("fast")->detection_ms(), 1400u);
}

TEST(Timing, UnknownProfilesAreRefusedByName) {
  const auto t = timing_profile("wan");
  ASSERT_FALSE(t);
  EXPECT_NE(t.error().text.find("wan"), std::string::npos);
}

TEST(Timing, EachInequalityIsChecked) {
  const Timing good = *timing_profile("local");
  const auto broken = [&](auto change) {
    Timing t = good;
    change(t);
    return !check_timing(t);
  };
  EXPECT_TRUE(broken([](Timing& t) { t.fence_ms = t.beat_ms + t.beat_io_ms + t.stall_ms - 1; }));
  EXPECT_TRUE(broken([](Timing& t) { t.late_ms += 1000; }));
  EXPECT_TRUE(broken([](Timing& t) { t.dead_ms = 9400; }));
  EXPECT_TRUE(broken([](Timing& t) { t.observe_ms = 501; }));
  EXPECT_TRUE(broken([](Timing& t) { t.join_ms = 3500; }));
  EXPECT_TRUE(broken([](Timing& t) { t.beat_ms = 0; }));
  EXPECT_TRUE(broken([](Timing& t) { t.rho_thousandths = 500; }));
  EXPECT_TRUE(broken([](Timing& t) { t.join_ms = 3'600'001; }));
  EXPECT_TRUE(broken([](Timing& t) { t.stall_ms = UINT32_MAX; })) << "sums must not wrap";
  EXPECT_TRUE(broken([](Timing& t) { t.observe_ms = t.observe_io_ms = UINT32_MAX; }));
}

}  // namespace
}  // namespace stp
