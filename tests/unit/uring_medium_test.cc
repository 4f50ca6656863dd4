// What only the medium of io_uring does.
#include "stp/uring_medium.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "failing_call.h"
#include "scratch_storage.h"
#include "stp/storage.h"
#include "stp/system.h"

namespace stp::testing {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kFirst = 8;  // behind superblock and leases

TEST(UringMedium, hands_over_later_what_the_kernel_has_no_room_for) {
  if (!UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
  const ScratchStorage scratch(MediumKind::kDirect);
  if (auto probed = probe_storage(scratch.path()); !probed || !probed->direct_io) GTEST_SKIP() << "no O_DIRECT: set TMPDIR to another file system";
  const ForcedIo io("uring");
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadWrite);
  ASSERT_TRUE(storage);
  auto medium = (*storage)->make_medium();
  ASSERT_TRUE(medium) << medium.error().text;
  const AlignedBuffer buffers(300 * kBlock);  // more than the submission ring holds
  IoCompletion done[300];
  std::size_t reaped = 1;
  STP_WITH_FAILING(
      [&] {
        for (std::uint32_t i = 0; i < 300; ++i)
          (*medium)->submit({.op = IoRequest::Op::kRead, .block = kFirst, .blocks = 1, .buffer = buffers.data() + i * kBlock, .token = i});
        (*medium)->flush();
        (*medium)->wait(boottime_now() + 5 * kMillisecond, 0);
        reaped = (*medium)->reap(done);
      },
      FailingCall{.number = SYS_io_uring_enter, .error = EBUSY});
  EXPECT_EQ(reaped, 0u);
  std::size_t count = 0;
  while (count < 300) {
    const std::size_t n = (*medium)->reap(done);
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(done[i].error, 0);
    count += n;
    if (n == 0) (*medium)->wait(kNever, 0);
  }
  EXPECT_EQ(count, 300u);
}

// The kernel has the thread that handed something in bring its completion. One that computes does that at the kernel's next tick, up to 10 ms
// later, unless the device interrupts its own processor (so on each in turn) or somebody else does.
class UringMediumBesideComputing : public ::testing::Test {
 protected:
  static constexpr int kRounds = 21;
  static constexpr Nanos kSoon = 600 * kMicrosecond;

  void SetUp() override {
    if (!UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
    if (auto probed = probe_storage(scratch_.path()); !probed || !probed->direct_io) GTEST_SKIP() << "no O_DIRECT: set TMPDIR to another file system";
    auto storage = Storage::open(scratch_.path(), Storage::Access::kReadWrite);
    ASSERT_TRUE(storage) << storage.error().text;
    auto medium = (*storage)->make_medium();
    ASSERT_TRUE(medium) << medium.error().text;
    medium_ = std::move(*medium);
  }

  // In each round a thread that computes on that processor calls `hand_in`; then this one calls `wait`, which returns since when it waits in vain.
  template <class HandIn, class Wait>
  Nanos typical_delay(int cpu, HandIn hand_in, Wait wait) {
    std::atomic<int> asked{0}, done{0};
    std::thread computes([&] {
      cpu_set_t only;
      CPU_ZERO(&only);
      CPU_SET(cpu, &only);
      EXPECT_EQ(::pthread_setaffinity_np(::pthread_self(), sizeof only, &only), 0);
      while (asked.load() >= 0) {
        if (asked.load() == done.load()) continue;
        hand_in();
        done.store(done.load() + 1);
      }
    });
    std::vector<Nanos> took;
    for (int round = 1; round <= kRounds; ++round) {
      asked.store(round);
      while (done.load() < round) std::this_thread::yield();
      const Nanos from = wait();
      took.push_back(boottime_now() - from);
    }
    asked.store(-1);
    computes.join();
    std::ranges::nth_element(took, took.begin() + kRounds / 2);
    return took[kRounds / 2];
  }
  template <class HandIn, class Wait>
  void expect_soon(HandIn hand_in, Wait wait) {
    cpu_set_t allowed;
    ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (int cpu = 0, left = 4; cpu < CPU_SETSIZE && left > 0; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      --left;
      // On a crowded machine it may really have to wait for its turn.
      Nanos delay = typical_delay(cpu, hand_in, wait);
      for (int more = 0; more < 10 && delay > kSoon; ++more) delay = typical_delay(cpu, hand_in, wait);
      EXPECT_LE(delay, kSoon) << "on processor " << cpu;
    }
  }

  ForcedIo io_{"uring"};
  ScratchStorage scratch_{MediumKind::kDirect};
  std::unique_ptr<Medium> medium_;
};

TEST_F(UringMediumBesideComputing, requests_of_a_thread_that_computes_complete_soon) {
  AlignedBuffer buffer(kBlock);
  expect_soon(
      [&] {
        medium_->submit({.op = IoRequest::Op::kRead, .block = kFirst, .blocks = 1, .buffer = buffer.data(), .token = 5});
        medium_->flush();
      },
      [&] {
        const Nanos from = boottime_now();
        IoCompletion one[1];
        while (medium_->reap(one) == 0) medium_->wait(kNever, 0);
        EXPECT_EQ(one[0].error, 0);
        return from;
      });
}

TEST_F(UringMediumBesideComputing, a_wake_ends_a_wait_soon_whoever_reaped_last) {
  std::atomic<Nanos> woken{0};
  std::atomic<bool> waiting{false}, ended{false};
  std::thread wakes([&] {
    while (!ended.load()) {
      ::usleep(500);
      if (!waiting.exchange(false)) continue;
      ::usleep(500);  // it sleeps now, if it ever does
      woken.store(boottime_now());
      medium_->wake();
    }
  });
  expect_soon(
      [&] {
        IoCompletion none[1];
        EXPECT_EQ(medium_->reap(none), 0u);
      },
      [&] {
        woken.store(0);
        waiting.store(true);
        do medium_->wait(kNever, 0);
        while (woken.load() == 0);
        return woken.load();
      });
  ended.store(true);
  wakes.join();
}

}  // namespace
}  // namespace stp::testing
