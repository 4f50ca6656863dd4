// The rules of `stp run --map`.
#include "hostlib/run_rules.h"

#include <gtest/gtest.h>

namespace stp::run {
namespace {

std::string error_of(std::string_view text) {
  const auto rules = RunRules::parse(text);
  return rules ? std::string() : rules.error();
}

TEST(RunRules, WithoutRulesTheWildcardIsStpAndLoopbackIsTcp) {
  const auto rules = RunRules::parse("");
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->way_of("nginx", 80, false), Way::kStp);
  EXPECT_EQ(rules->way_of("nginx", 80, true), Way::kTcp);
}

TEST(RunRules, TheFirstThatFitsHolds) {
  const auto rules = RunRules::parse("listen 22,8000-8999 tcp; program redis-server listen * on loopback stp\nlisten * on wildcard stp");
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->way_of("sshd", 22, false), Way::kTcp);
  EXPECT_EQ(rules->way_of("sshd", 23, false), Way::kStp);
  EXPECT_EQ(rules->way_of("x", 8000, true), Way::kTcp);
  EXPECT_EQ(rules->way_of("x", 8999, false), Way::kTcp);
  EXPECT_EQ(rules->way_of("x", 9000, false), Way::kStp);
  EXPECT_EQ(rules->way_of("redis-server", 6379, true), Way::kStp);
  EXPECT_EQ(rules->way_of("redis-cli", 6379, true), Way::kTcp);
}

TEST(RunRules, APortMayBeBoths) {
  const auto rules = RunRules::parse("program sshd listen 22 both; listen 80 on loopback both");
  ASSERT_TRUE(rules);
  EXPECT_EQ(rules->way_of("sshd", 22, false), Way::kBoth);
  EXPECT_EQ(rules->way_of("sshd", 22, true), Way::kBoth);
  EXPECT_EQ(rules->way_of("nginx", 80, false), Way::kStp);
  EXPECT_EQ(rules->way_of("nginx", 80, true), Way::kBoth);
  EXPECT_TRUE(rules->some_are(Way::kBoth));
  EXPECT_FALSE(rules->some_are(Way::kTcp));
}

TEST(RunRules, CommentsAndEmptyLinesAreNoRules) {
  const auto rules = RunRules::parse("# listen * tcp; listen * tcp\n\n  ;; \t\nlisten 80 tcp # listen 81 tcp\r\n");
  ASSERT_TRUE(rules) << rules.error();
  EXPECT_EQ(rules->way_of("x", 80, false), Way::kTcp);
  EXPECT_EQ(rules->way_of("x", 81, false), Way::kStp);
}

TEST(RunRules, WhatMakesNoSenseIsSaidWithItsLine) {
  EXPECT_EQ(error_of("listen 80 stp\nlisten eighty stp"), "line 2: a list of ports as 80,8000-8999, or *, is wanted, not \"eighty\"");
  EXPECT_NE(error_of("listen 80 stp # a\n# b\nlisten 0 stp").find("line 3"), std::string::npos);
  for (const char* wrong : {"listen", "listen 80", "listen 80 on", "listen 80 on moon stp", "listen 80 stp tcp", "listen 80, stp", "listen 9-8 stp",
                            "listen 65536 stp", "listen 80- stp", "program", "program nginx", "program nginx 80 stp", "connect 80 stp", "listen -1 tcp"})
    EXPECT_NE(error_of(wrong), "") << wrong;
}

}  // namespace
}  // namespace stp::run
