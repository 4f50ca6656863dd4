// How requests are taken, with a socket in place of the kernel's device.
#include "fuse/receiver.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

using namespace stp;
using namespace stp::view;
using namespace std::chrono_literals;

namespace {

class ReceiverTest : public ::testing::Test {
 protected:
  ReceiverTest() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends_), 0); }
  ~ReceiverTest() override {
    for (const int end : ends_) ::close(end);
  }
  void ask(const std::string& request) {
    ASSERT_EQ(::send(ends_[0], request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  }
  // Empty: none will come.
  std::string take() {
    char room[1024];
    const ssize_t got = receiver_.read(ends_[1], room, sizeof room);
    return got <= 0 ? std::string() : std::string(room, static_cast<std::size_t>(got));
  }
  int ends_[2] = {-1, -1};
  Receiver receiver_;
};

TEST_F(ReceiverTest, TakesWhatIsThereAndWhatComesLater) {
  ask("first");
  ask("second");
  EXPECT_EQ(take(), "first");
  EXPECT_EQ(take(), "second");
  std::thread program([&] {
    for (const auto pause : {20us, 500us, 50'000us}) {
      std::this_thread::sleep_for(pause);
      ask(std::to_string(pause.count()));
    }
    ::shutdown(ends_[0], SHUT_WR);
  });
  EXPECT_EQ(take(), "20");
  EXPECT_EQ(take(), "500");
  EXPECT_EQ(take(), "50000");
  EXPECT_EQ(take(), "");
  program.join();
}

TEST_F(ReceiverTest, WhereNothingComesNobodyLooks) {
  std::thread waiting([&] { EXPECT_EQ(take(), ""); });
  clockid_t clock = 0;
  ASSERT_EQ(::pthread_getcpuclockid(waiting.native_handle(), &clock), 0);
  std::this_thread::sleep_for(1s);
  timespec used = {};
  EXPECT_EQ(::clock_gettime(clock, &used), 0);
  EXPECT_LT(used.tv_sec * kSecond + used.tv_nsec, 20 * kMillisecond);
  ::shutdown(ends_[0], SHUT_WR);
  waiting.join();
}

}  // namespace
