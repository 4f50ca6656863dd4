// Which thread takes the next request, with a socket in place of the kernel's device.
#include "fuse/receiver.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

using namespace stp;
using namespace stp::view;
using namespace std::chrono_literals;

namespace {

#if defined(__SANITIZE_ADDRESS__)  // g++
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)  // clang++
constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
constexpr bool kAddressSanitizer = false;
#endif

class ReceiverTest : public ::testing::Test {
 protected:
  ReceiverTest() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends_), 0); }
  ~ReceiverTest() override {
    for (const int end : ends_) ::close(end);
  }
  void ask(std::uint32_t opcode, std::uint32_t bytes) {
    struct {
      fuse_in_header header;
      fuse_read_in read;
    } request = {};
    request.header.opcode = opcode;
    request.header.len = opcode == FUSE_WRITE ? bytes : sizeof request;
    request.read.size = bytes;
    ASSERT_EQ(::send(ends_[0], &request, sizeof request, 0), static_cast<ssize_t>(sizeof request));
  }
  // The opcode; 0: none.
  std::uint32_t take() {
    char room[1024];
    fuse_in_header header = {};
    if (receiver_.read(ends_[1], room, sizeof room) < static_cast<ssize_t>(sizeof header)) return 0;
    std::memcpy(&header, room, sizeof header);
    return header.opcode;
  }
  int ends_[2] = {-1, -1};
  Receiver receiver_;
};

// Each thread, and its turn, ends with the test.
TEST_F(ReceiverTest, OneThreadTakesWhatIsShortOneAfterTheOther) {
  std::thread([&] {
    ask(FUSE_LOOKUP, 0);
    EXPECT_EQ(take(), FUSE_LOOKUP);
    std::atomic<std::uint32_t> others{0};
    std::thread other([&] { others = take(); });
    ask(FUSE_READ, 4096);
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(others, 0u) << "that is whose turn it is";
    EXPECT_EQ(take(), FUSE_READ);
    ask(FUSE_WRITE, 4096);
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(others, 0u);
    EXPECT_EQ(take(), FUSE_WRITE);
    ask(FUSE_READ, 1 << 20);
    EXPECT_EQ(take(), FUSE_READ);
    ask(FUSE_GETATTR, 0);
    other.join();
    EXPECT_EQ(others, FUSE_GETATTR) << "while much is read";
  }).join();
}

TEST_F(ReceiverTest, WhileMuchIsMovedTheOthersTakeTheNext) {
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_WRITE}) {
    std::vector<std::thread> threads;
    std::atomic<unsigned> taken{0};
    std::promise<void> all;
    const std::shared_future<void> done = all.get_future().share();
    for (int i = 0; i < 4; ++i) {
      ask(opcode, 1 << 20);
      threads.emplace_back([&, done] {
        EXPECT_EQ(take(), opcode);
        if (++taken == 4) all.set_value();
        EXPECT_EQ(done.wait_for(30s), std::future_status::ready) << "somebody waits for who moves much";
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(taken, 4u);
  }
}

TEST_F(ReceiverTest, ThreadsThatWaitCanBeCancelledAndAnotherOneCanTakeRequestsThen) {
  if (kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer takes what a cancelled thread leaves on its stack for an error";
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { (void)take(); });
  std::this_thread::sleep_for(20ms);
  for (std::thread& thread : threads) EXPECT_EQ(::pthread_cancel(thread.native_handle()), 0);
  for (std::thread& thread : threads) thread.join();
  receiver_.begin_again();
  ask(FUSE_FLUSH, 0);
  std::thread([&] { EXPECT_EQ(take(), FUSE_FLUSH); }).join();
}

TEST_F(ReceiverTest, WhereNothingComesNobodyLooks) {
  std::thread waiting([&] { EXPECT_EQ(take(), 0u); });
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
