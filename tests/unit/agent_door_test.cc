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

namespace stp::host {
namespace {

class Scratch {
 public:
  Scratch() {
    char name[] = "/tmp/stp-door-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~Scratch() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/agent.sock"; }
  std::size_t files() const { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder_), {})); }

 private:
  std::string folder_;
};

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
  const Scratch scratch;
  std::atomic<int> opening = 0;  // the round, while the door is being opened
  std::atomic<bool> ended = false;
  std::atomic<int> refused = 0, answered = 0;
  std::thread program([&] {
    while (!ended) {
      const int round = opening;
      const int code = knock(scratch.path());
      if (round == 0 || round != opening) continue;
      if (code == ECONNREFUSED) ++refused;
      if (code == 0) ++answered;
    }
  });
  for (int round = 1; round <= kRounds || (answered == 0 && round < 100 * kRounds); ++round) {
    opening = round;
    auto door = AgentDoor::open(scratch.path(), 0600);
    EXPECT_TRUE(door);
    EXPECT_EQ(knock(scratch.path()), 0);
    opening = 0;
  }
  ended = true;
  program.join();
  EXPECT_EQ(refused, 0);
  EXPECT_GT(answered, 0);
  EXPECT_EQ(scratch.files(), 0u);
}

TEST(AgentDoor, HasTheModeThatWasAskedFor) {
  const Scratch scratch;
  for (const mode_t mode : {0600u, 0660u, 0666u}) {
    const auto door = AgentDoor::open(scratch.path(), mode);
    ASSERT_TRUE(door);
    struct stat facts = {};
    ASSERT_EQ(::stat(scratch.path().c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, mode);
  }
}

TEST(AgentDoor, ADeadAgentsSocketIsReplacedAndALivingOnesIsNot) {
  const Scratch scratch;
  {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    scratch.path().copy(address.sun_path, sizeof address.sun_path - 1);
    const int left = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(left, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    (void)::close(left);
  }
  const auto door = AgentDoor::open(scratch.path(), 0600);
  ASSERT_TRUE(door);
  const auto second = AgentDoor::open(scratch.path(), 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_EQ(knock(scratch.path()), 0);
  EXPECT_EQ(scratch.files(), 1u);
}

}  // namespace
}  // namespace stp::host
