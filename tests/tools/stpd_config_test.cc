#include "tools/stpd_config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/tools/scratch_dir.h"

namespace stp {
namespace {

class StpdConfigFile : public ::testing::Test {
 protected:
  Result<void> read(const std::string& text) {
    const std::string path = dir_.path() + "/stpd.toml";
    std::ofstream(path) << text;
    return read_stpd_config(path, config_);
  }
  std::string complaint(const std::string& text) {
    const auto done = read(text);
    return done ? "" : done.error().text;
  }
  ScratchDir dir_;
  StpdConfig config_;
};

TEST_F(StpdConfigFile, says_everything_that_the_command_line_can) {
  ASSERT_TRUE(read("host = 'alpha'\nstg = ['/a', '/b']\nagent = '/run/x.sock'\nmode = '0660'\nring_kib = 256\nlocal_over_disk = true\nmax_sockets = 10\nmax_memory_mib = 7\ngiven_for_s = 3\nmetrics = '127.0.0.1:1'\n"
                   "[access]\nallow_users = ['root', 1234]\ndeny_groups = [7]\n"));
  EXPECT_EQ(config_.host, "alpha");
  EXPECT_EQ(config_.stgs, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(config_.agent, "/run/x.sock");
  EXPECT_EQ(config_.mode, "0660");
  EXPECT_EQ(config_.ring_kib, 256u);
  EXPECT_TRUE(config_.local_over_disk);
  EXPECT_EQ(config_.most_sockets, 10u);
  EXPECT_EQ(config_.most_memory_mib, 7u);
  EXPECT_EQ(config_.given_for_s, 3u);
  EXPECT_EQ(config_.metrics, "127.0.0.1:1");
  EXPECT_EQ(config_.access.allow_users, (std::vector<uid_t>{0, 1234}));
  EXPECT_EQ(config_.access.deny_groups, (std::vector<gid_t>{7}));
}

TEST_F(StpdConfigFile, leaves_what_it_does_not_name_but_forgets_access_that_is_no_longer_there) {
  ASSERT_TRUE(read("host = 'alpha'\n[access]\nallow_users = [5]\n"));
  ASSERT_TRUE(read("stg = '/one'\n"));
  EXPECT_EQ(config_.host, "alpha");
  EXPECT_EQ(config_.stgs, (std::vector<std::string>{"/one"}));
  EXPECT_TRUE(config_.access.allow_users.empty());
}

TEST_F(StpdConfigFile, names_the_line_of_what_is_wrong_and_changes_nothing) {
  ASSERT_TRUE(read("host = 'alpha'\n"));
  EXPECT_NE(complaint("host = 'beta'\nhots = 'x'\n").find(":2: there is no setting hots"), std::string::npos) << complaint("hots = 'x'\n");
  EXPECT_EQ(config_.host, "alpha");
  EXPECT_NE(complaint("host = 5\n").find(":1: a text"), std::string::npos);
  EXPECT_NE(complaint("ring_kib = 1\n").find("from 4 to 65536"), std::string::npos);
  EXPECT_NE(complaint("local_over_disk = 1\n").find("true or false"), std::string::npos);
  EXPECT_NE(complaint("mode = '9'\n").find("octal"), std::string::npos);
  EXPECT_NE(complaint("stg = []\n").find("paths"), std::string::npos);
  EXPECT_NE(complaint("[access]\nallow_users = ['no such user']\n").find(":2: there is no user"), std::string::npos);
  EXPECT_NE(complaint("[access]\nallow_users = [-1]\n").find("no number"), std::string::npos);
  EXPECT_NE(complaint("[access]\nallow = []\n").find("access.allow"), std::string::npos);
  EXPECT_NE(complaint("host = \n").find(":1: "), std::string::npos);
  EXPECT_FALSE(read_stpd_config("/no/such/file", config_));
}

TEST(AgentAccess, deny_wins_and_nobody_named_means_everybody) {
  host::AgentAccess access;
  EXPECT_TRUE(access.allows(5, {5}));
  access.deny_users = {5};
  EXPECT_FALSE(access.allows(5, {5}));
  EXPECT_TRUE(access.allows(6, {6}));
  access.allow_groups = {10};
  EXPECT_FALSE(access.allows(6, {6}));
  EXPECT_TRUE(access.allows(6, {6, 10}));
  EXPECT_FALSE(access.allows(5, {10}));
  access.deny_groups = {11};
  EXPECT_FALSE(access.allows(6, {10, 11}));
}

}  // namespace
}  // namespace stp
