#include "stp/names.h"

#include <gtest/gtest.h>

namespace stp {

TEST(Names, AcceptsWhatTheRulesAllow) {
  EXPECT_TRUE(valid_host_name("a"));
  EXPECT_TRUE(valid_host_name("node-7"));
  EXPECT_TRUE(valid_host_name(std::string(63, 'x')));
  EXPECT_FALSE(valid_host_name(""));
  EXPECT_FALSE(valid_host_name(std::string(64, 'x')));
  EXPECT_FALSE(valid_host_name("Node"));
  EXPECT_FALSE(valid_host_name("a.b"));
  EXPECT_FALSE(valid_host_name("a~2"));
  EXPECT_TRUE(valid_stg_name(std::string(31, 's')));
  EXPECT_FALSE(valid_stg_name(std::string(32, 's')));
}

TEST(Names, InstancesBeginAtTwo) {
  EXPECT_TRUE(valid_instance_name("alpha"));
  EXPECT_TRUE(valid_instance_name("alpha~2"));
  EXPECT_TRUE(valid_instance_name("alpha~999"));
  for (const char* bad : {"alpha~1", "alpha~", "alpha~02", "alpha~1000", "~2", "alpha~2~3", "alpha~x"})
    EXPECT_FALSE(valid_instance_name(bad)) << bad;
  EXPECT_EQ(base_name("alpha~2"), "alpha");
  EXPECT_EQ(base_name("alpha"), "alpha");
  EXPECT_EQ(instance_name("alpha", 1), "alpha");
  EXPECT_EQ(instance_name("alpha", 3), "alpha~3");
}

TEST(Names, ParsesAddressesAndFoldsCase) {
  EXPECT_EQ(*parse_address("Alpha:80"), (Address{"alpha", "", 80}));
  EXPECT_EQ(*parse_address("alpha.SITE-a:65535"), (Address{"alpha", "site-a", 65535}));
  EXPECT_EQ(*parse_address("alpha~2:7"), (Address{"alpha~2", "", 7}));
  EXPECT_EQ(*parse_address(":7"), (Address{"", "", 7}));
  for (const char* bad : {"", "alpha", "alpha:", "alpha:x", "alpha:65536", "al_pha:1", "alpha.:1", "alpha:-1", "alpha:1 "})
    EXPECT_FALSE(parse_address(bad)) << bad;
  EXPECT_EQ(to_string(Address{"alpha", "s", 9}), "alpha.s:9");
}

}  // namespace stp
