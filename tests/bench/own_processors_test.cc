#include "tools/own_processors.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

namespace stp::tools {
namespace {

cpu_set_t processors_of(pid_t thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(::sched_getaffinity(thread, sizeof set, &set), 0);
  return set;
}
bool same(cpu_set_t a, cpu_set_t b) { return CPU_EQUAL(&a, &b); }
bool apart(cpu_set_t a, cpu_set_t b) {
  cpu_set_t both;
  CPU_AND(&both, &a, &b);
  return CPU_COUNT(&both) == 0;
}

// A process with nothing to do.
class Sleeper {
 public:
  Sleeper() : pid(::fork()) {
    if (pid == 0)
      for (;;) ::pause();
  }
  ~Sleeper() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  const pid_t pid;
};

class OwnProcessorsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CPU_COUNT(&before_) < 2) GTEST_SKIP() << "one processor, nothing to keep apart";
  }
  void TearDown() override { EXPECT_TRUE(same(processors_of(0), before_)); }
  cpu_set_t before_ = processors_of(0);
};

TEST_F(OwnProcessorsTest, ProcessesAreKeptApartAndLetGoAgain) {
  const Sleeper near, far;
  {
    const OwnProcessors own({near.pid}, {far.pid});
    EXPECT_TRUE(apart(processors_of(near.pid), processors_of(far.pid)));
    cpu_set_t near_set = processors_of(near.pid), far_set = processors_of(far.pid), all;
    CPU_OR(&all, &near_set, &far_set);
    EXPECT_TRUE(same(all, before_)) << "each processor is somebody's";
    EXPECT_TRUE(same(processors_of(0), before_)) << "who asks stays where he was";
  }
  EXPECT_TRUE(same(processors_of(near.pid), before_));
  EXPECT_TRUE(same(processors_of(far.pid), before_));
}

TEST_F(OwnProcessorsTest, AProcessThatIsGoneIsPassedOver) {
  pid_t gone = 0;
  {
    const Sleeper ended;
    gone = ended.pid;
  }
  const Sleeper far;
  const OwnProcessors own({gone}, {far.pid});
  EXPECT_FALSE(same(processors_of(far.pid), before_)) << "who is left is kept to a half all the same";
}

TEST_F(OwnProcessorsTest, AThreadIsOnItsHalfWithWhatItStarts) {
  cpu_set_t first, second;
  std::thread([&] {
    const OnHalf own(Half::kFirst);
    std::thread([&] { first = processors_of(0); }).join();
  }).join();
  {
    const OnHalf own(Half::kSecond);
    second = processors_of(0);
  }
  EXPECT_TRUE(apart(first, second));
  EXPECT_GT(CPU_COUNT(&first), 0);
  EXPECT_GT(CPU_COUNT(&second), 0);
}

TEST(HalfOfTheProcessors, HyperthreadsOfACoreStayTogether) {
  const std::vector<Processor> all{{0, 0, 0}, {1, 0, 1}, {2, 0, 0}, {3, 0, 1}};
  EXPECT_EQ(half_of(all, Half::kFirst), (std::vector{0, 2}));
  EXPECT_EQ(half_of(all, Half::kSecond), (std::vector{1, 3}));
}

TEST(HalfOfTheProcessors, CoresOfAPackageStayTogether) {
  const std::vector<Processor> all{{0, 0, 0}, {1, 1, 0}, {2, 0, 1}, {3, 1, 1}};
  EXPECT_EQ(half_of(all, Half::kFirst), (std::vector{0, 2}));
  EXPECT_EQ(half_of(all, Half::kSecond), (std::vector{1, 3}));
}

TEST(HalfOfTheProcessors, TheOddOneIsOfTheSecond) {
  const std::vector<Processor> all{{4, 0, 0}, {5, 0, 0}, {7, 0, 1}};
  EXPECT_EQ(half_of(all, Half::kFirst), (std::vector{4}));
  EXPECT_EQ(half_of(all, Half::kSecond), (std::vector{5, 7}));
}

// In a process of its own: there is no way back.
TEST_F(OwnProcessorsTest, TheSchedulerHasAllWhereThatIsWanted) {
  EXPECT_EXIT(
      {
        leave_to_scheduler();
        const OnHalf own(Half::kFirst);
        ::_exit(same(processors_of(0), before_) ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace stp::tools
