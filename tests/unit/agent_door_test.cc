// The agent's Unix socket as programs find it.
#include "hostlib/agent_door.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "tests/tools/scratch_dir.h"

namespace stp::host {
namespace {

std::size_t files_in(const ScratchDir& folder) { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {})); }

// 0: somebody listens (though its queue may be full), or the errno of a connect.
int knock(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int s = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int code = ::connect(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  (void)::close(s);
  return code == EAGAIN ? 0 : code;
}

// A program that finds nobody behind the path embeds the engine, under the name that the agent is about to take.
TEST(AgentDoor, WhereItsPathIsItIsListenedOn) {
  constexpr int kRounds = 300;
  const ScratchDir scratch;
  const std::string path = scratch.path("agent.sock");
  std::atomic<int> opening = 0;  // the round, while the door is being opened
  std::atomic<bool> ended = false;
  std::atomic<int> refused = 0, answered = 0;
  std::thread program([&] {
    while (!ended) {
      const int round = opening;
      const int code = knock(path);
      if (round == 0 || round != opening) continue;
      if (code == ECONNREFUSED) ++refused;
      if (code == 0) ++answered;
    }
  });
  for (int round = 1; round <= kRounds || (answered == 0 && round < 100 * kRounds); ++round) {
    opening = round;
    auto door = AgentDoor::open(path, 0600);
    EXPECT_TRUE(door);
    EXPECT_EQ(knock(path), 0);
    opening = 0;
  }
  ended = true;
  program.join();
  EXPECT_EQ(refused, 0);
  EXPECT_GT(answered, 0);
  EXPECT_EQ(files_in(scratch), 0u);
}

TEST(AgentDoor, HasTheModeThatWasAskedFor) {
  const ScratchDir scratch;
  const std::string path = scratch.path("agent.sock");
  for (const mode_t mode : {0600u, 0660u, 0666u}) {
    const auto door = AgentDoor::open(path, mode);
    ASSERT_TRUE(door);
    struct stat facts = {};
    ASSERT_EQ(::stat(path.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, mode);
  }
}

TEST(AgentDoor, ADeadAgentsSocketIsReplacedAndALivingOnesIsNot) {
  const ScratchDir scratch;
  const std::string path = scratch.path("agent.sock");
  {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int left = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(left, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    (void)::close(left);
  }
  const auto door = AgentDoor::open(path, 0600);
  ASSERT_TRUE(door);
  const auto second = AgentDoor::open(path, 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_EQ(knock(path), 0);
  EXPECT_EQ(files_in(scratch), 1u);
}

}  // namespace
}  // namespace stp::host
