#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "stp/medium.h"
#include "tools/raw_ceiling.h"
#include "tools/raw_pingpong.h"

namespace stp {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// A preallocated file that is gone when the test is.
class RawRivals : public testing::Test {
 protected:
  void SetUp() override {
    const char* directory = std::getenv("TMPDIR");
    path_ = std::string(directory != nullptr ? directory : "/var/tmp") + "/raw-rivals-XXXXXX";
    const int fd = ::mkstemp(path_.data());
    ASSERT_GE(fd, 0);
    const std::vector<char> zeros(16 * kMiB);
    ASSERT_EQ(::write(fd, zeros.data(), zeros.size()), static_cast<ssize_t>(zeros.size()));
    ::close(fd);
    const int direct = ::open(path_.c_str(), O_RDWR | O_DIRECT);
    if (direct < 0) GTEST_SKIP() << "O_DIRECT does not work in the directory of " << path_;
    ::close(direct);
  }
  void TearDown() override { ::unlink(path_.c_str()); }
  RawRange range() const { return {.path = path_, .offset = 0, .length = 16 * kMiB}; }
  std::string path_;
};

TEST_F(RawRivals, QueueReadsWhatItWroteInsideItsRange) {
  const RawRange second_half{.path = path_, .offset = 8 * kMiB, .length = 8 * kMiB};
  auto queue = RawQueue::open(second_half, 2);
  ASSERT_TRUE(queue) << queue.error().text;
  AlignedBuffer out(4096), in(4096);
  std::memset(out.data(), 'x', out.size());
  (*queue)->write(kMiB, out.data(), out.size(), 0);
  RawQueue::Done done = (*queue)->wait(std::chrono::seconds(60));
  ASSERT_EQ(done.state, RawQueue::Done::State::kDone);
  ASSERT_EQ(done.error, 0);
  (*queue)->read(kMiB, in.data(), in.size(), 1);
  done = (*queue)->wait(std::chrono::seconds(60));
  ASSERT_EQ(done.token, 1u);
  ASSERT_EQ(done.error, 0);
  EXPECT_EQ(std::memcmp(in.data(), out.data(), in.size()), 0);
  char first = 0;
  const int fd = ::open(path_.c_str(), O_RDONLY);
  EXPECT_EQ(::pread(fd, &first, 1, 9 * kMiB), 1);
  ::close(fd);
  EXPECT_EQ(first, 'x');
}

TEST_F(RawRivals, QueueSaysThatAReadBehindTheEndFailed) {
  auto queue = RawQueue::open(range(), 1);
  ASSERT_TRUE(queue) << queue.error().text;
  AlignedBuffer in(4096);
  (*queue)->read(16 * kMiB, in.data(), in.size(), 0);
  const RawQueue::Done done = (*queue)->wait(std::chrono::seconds(60));
  ASSERT_EQ(done.state, RawQueue::Done::State::kDone);
  EXPECT_EQ(done.error, EIO);
}

TEST_F(RawRivals, MissingFileIsAnErrorThatNamesIt) {
  auto rate = RawCeiling({.path = path_ + ".none", .offset = 0, .length = 16 * kMiB}, std::chrono::milliseconds(1)).measure();
  ASSERT_FALSE(rate);
  EXPECT_EQ(rate.error().code, ENOENT);
  EXPECT_NE(rate.error().text.find(".none"), std::string::npos);
}

TEST_F(RawRivals, CeilingCountsOnlyWhatWasAlsoRead) {
  // 64 MiB a second for so long that 1 MiB must have gone through, and no more than the pace allows.
  RawCeiling ceiling(range(), std::chrono::milliseconds(200));
  auto rate = ceiling.write_and_read(64.0 * kMiB);
  ASSERT_TRUE(rate) << rate.error().text;
  EXPECT_GT(*rate, 0);
  EXPECT_LT(*rate, 80.0 * kMiB);
}

TEST_F(RawRivals, PingPongCountsExchangesAndEndsItsOtherProcess) {
  auto times = raw_pingpong(range(), 4096, std::chrono::milliseconds(50));
  ASSERT_TRUE(times) << times.error().text;
  ASSERT_FALSE(times->empty());
  for (const double time : *times) EXPECT_GT(time, 0);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
}

}  // namespace
}  // namespace stp
