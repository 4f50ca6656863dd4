// The contract of stp/medium.h, for each medium that moves real bytes.
#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "failing_call.h"
#include "hostlib/unique_fd.h"
#include "scratch_storage.h"
#include "stp/buffer_pool.h"
#include "stp/mapping.h"
#include "stp/storage.h"
#include "stp/system.h"
#include "stp/thread_signals.h"
#include "stp/uring_medium.h"

namespace stp::testing {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kFirst = 8;  // behind superblock and leases

void paint(std::byte* at, std::size_t size, std::uint64_t seed) {
  for (std::size_t i = 0; i + 8 <= size; i += 8) store_le<std::uint64_t>(at + i, seed * 0x9e3779b97f4a7c15ull + i);
}

bool painted(const std::byte* at, std::size_t size, std::uint64_t seed) {
  for (std::size_t i = 0; i + 8 <= size; i += 8)
    if (load_le<std::uint64_t>(at + i) != seed * 0x9e3779b97f4a7c15ull + i) return false;
  return true;
}

class MediumContract : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const bool mapped = GetParam() == std::string("mapped");
    if (GetParam() == std::string("uring") && !UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
    io_ = std::make_unique<ForcedIo>(mapped ? nullptr : GetParam());
    scratch_ = std::make_unique<ScratchStorage>(mapped ? MediumKind::kMapped : MediumKind::kDirect);
    auto probed = probe_storage(scratch_->path());
    ASSERT_TRUE(probed);
    if (!mapped && !probed->direct_io) GTEST_SKIP() << probed->file_system << " has no O_DIRECT: set TMPDIR to another file system";
    open_medium();
  }
  void open_medium() {
    auto storage = Storage::open(scratch_->path(), Storage::Access::kReadWrite);
    ASSERT_TRUE(storage) << storage.error().text;
    storage_ = *storage;
    auto medium = storage_->make_medium();
    ASSERT_TRUE(medium) << medium.error().text;
    medium_ = std::move(*medium);
  }
  // Drives until `count` completions came, or for ever: the runner's timeout is the bound.
  std::vector<IoCompletion> collect(std::size_t count) {
    std::vector<IoCompletion> all;
    while (all.size() < count) {
      IoCompletion some[16];
      const std::size_t n = medium_->reap(some);
      all.insert(all.end(), some, some + n);
      if (n == 0) medium_->wait(kNever, 0);
    }
    return all;
  }
  int do_one(IoRequest::Op op, std::uint64_t block, std::uint32_t blocks, std::byte* buffer) {
    medium_->submit({.op = op, .block = block, .blocks = blocks, .buffer = buffer, .token = 77});
    medium_->flush();
    const auto done = collect(1);
    EXPECT_EQ(done[0].token, 77u);
    return done[0].error;
  }

  std::unique_ptr<ForcedIo> io_;
  std::unique_ptr<ScratchStorage> scratch_;
  std::shared_ptr<Storage> storage_;
  std::unique_ptr<Medium> medium_;
};

TEST(AlignedBuffer, buffers_of_a_huge_page_lie_side_by_side_zeroed_and_outlive_each_other) {
  constexpr std::size_t kSize = 256 * 1024;
  auto buffers = AlignedBuffer::of_huge_page(kSize);
  ASSERT_EQ(buffers.size(), 8u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffers[0].data()) % (8 * kSize), 0u);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    EXPECT_EQ(buffers[i].data(), buffers[0].data() + i * kSize);
    EXPECT_EQ(buffers[i].size(), kSize);
    EXPECT_EQ(std::count(buffers[i].data(), buffers[i].data() + kSize, std::byte{0}), static_cast<std::ptrdiff_t>(kSize));
    std::fill_n(buffers[i].data(), kSize, static_cast<std::byte>(i));
  }
  const AlignedBuffer last = std::move(buffers[7]);
  buffers.clear();
  EXPECT_EQ(last.data()[kSize - 1], std::byte{7});
}

TEST(AlignedBuffer, a_huge_page_that_can_not_be_had_leaves_ordinary_buffers) {
  constexpr std::size_t kSize = 256 * 1024;
  std::vector<AlignedBuffer> buffers;
  // Where it fails, memory for buffers comes from elsewhere: the mapping alone is of 4 MiB.
  STP_WITH_FAILING([&] { buffers = AlignedBuffer::of_huge_page(kSize); }, FailingCall{.number = SYS_mmap, .error = ENOMEM, .argument = 1, .mask = 4u << 20});
  ASSERT_EQ(buffers.size(), 8u);
  for (const AlignedBuffer& buffer : buffers) {
    ASSERT_EQ(buffer.size(), kSize);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % kBufferAlignment, 0u);
    EXPECT_EQ(std::count(buffer.data(), buffer.data() + kSize, std::byte{0}), static_cast<std::ptrdiff_t>(kSize));
  }
}

TEST(BufferPool, gives_the_buffer_that_came_back_last) {
  BufferPool pool;
  AlignedBuffer a = pool.take(BufferPool::kLargest), b = pool.take(BufferPool::kLargest);
  std::byte* const last = a.data();
  EXPECT_NE(last, b.data());
  pool.give_back(std::move(b));
  pool.give_back(std::move(a));
  EXPECT_EQ(pool.take(BufferPool::kLargest).data(), last);
  EXPECT_EQ(pool.take(5000).size(), 8192u);
}

TEST_P(MediumContract, tells_the_geometry_of_its_storage) {
  EXPECT_EQ(medium_->block_size(), kBlock);
  EXPECT_EQ(medium_->total_blocks(), scratch_->superblock().geometry.total_blocks);
}

TEST_P(MediumContract, reads_back_what_was_written) {
  const AlignedBuffer out(3 * kBlock), in(3 * kBlock);
  paint(out.data(), out.size(), 1);
  ASSERT_EQ(do_one(IoRequest::Op::kWrite, kFirst, 3, out.data()), 0);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, 3, in.data()), 0);
  EXPECT_TRUE(painted(in.data(), in.size(), 1));
}

TEST_P(MediumContract, writes_are_seen_through_another_open_of_the_storage) {
  const AlignedBuffer out(kBlock), in(kBlock);
  paint(out.data(), out.size(), 2);
  ASSERT_EQ(do_one(IoRequest::Op::kWrite, kFirst, 1, out.data()), 0);
  auto other = Storage::open(scratch_->path(), Storage::Access::kReadOnly);
  ASSERT_TRUE(other) << other.error().text;
  ASSERT_TRUE((*other)->read(kFirst, in.span()));
  EXPECT_TRUE(painted(in.data(), in.size(), 2));
}

TEST_P(MediumContract, moves_the_largest_request) {
  const AlignedBuffer out(kMaxRequestBytes), in(kMaxRequestBytes);
  paint(out.data(), out.size(), 3);
  ASSERT_EQ(do_one(IoRequest::Op::kWrite, kFirst, kMaxRequestBytes / kBlock, out.data()), 0);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, kMaxRequestBytes / kBlock, in.data()), 0);
  EXPECT_TRUE(painted(in.data(), in.size(), 3));
}

// -- Prompt writes: kept for the thread that submitted them, by the media that gain from it

TEST_P(MediumContract, a_prompt_write_is_on_the_storage_after_carry_out_and_completes_once) {
  const AlignedBuffer out(kBlock), in(kBlock);
  paint(out.data(), out.size(), 4);
  medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst, .blocks = 1, .buffer = out.data(), .token = 5, .prompt = true});
  medium_->flush();
  medium_->carry_out();
  EXPECT_FALSE(medium_->keeps());
  const auto done = collect(1);
  EXPECT_EQ(done[0].token, 5u);
  EXPECT_EQ(done[0].error, 0);
  medium_->carry_out();
  IoCompletion more[1];
  EXPECT_EQ(medium_->reap(more), 0u);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, 1, in.data()), 0);
  EXPECT_TRUE(painted(in.data(), in.size(), 4));
}

TEST_P(MediumContract, a_prompt_write_that_is_let_go_completes_like_any_other) {
  const AlignedBuffer out(kBlock);
  paint(out.data(), out.size(), 5);
  medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst, .blocks = 1, .buffer = out.data(), .token = 6, .prompt = true});
  medium_->flush();
  medium_->let_go();
  EXPECT_FALSE(medium_->keeps());
  EXPECT_EQ(collect(1)[0].token, 6u);
}

TEST_P(MediumContract, only_one_prompt_write_is_kept_and_the_others_go_at_once) {
  const AlignedBuffer out(3 * kBlock);
  for (std::uint64_t i = 0; i < 3; ++i)
    medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst + i, .blocks = 1, .buffer = out.data() + i * kBlock, .token = i, .prompt = true});
  medium_->flush();
  const bool kept = medium_->keeps();
  auto done = collect(kept ? 2 : 3);
  medium_->carry_out();
  if (kept) done.push_back(collect(1)[0]);
  std::ranges::sort(done, {}, &IoCompletion::token);
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(done[i].token, i);
}

TEST_P(MediumContract, a_prompt_write_that_nobody_carries_out_is_done_before_the_medium_goes) {
  const AlignedBuffer out(kBlock), in(kBlock);
  paint(out.data(), out.size(), 7);
  medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst, .blocks = 1, .buffer = out.data(), .token = 7, .prompt = true});
  medium_.reset();
  ASSERT_TRUE(storage_->read(kFirst, in.span()));
  EXPECT_TRUE(painted(in.data(), in.size(), 7));
}

TEST_P(MediumContract, a_thread_that_carries_out_wakes_the_one_that_waits) {
  const AlignedBuffer out(kBlock);
  for (int round = 0; round < 200; ++round) {
    medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst, .blocks = 1, .buffer = out.data(), .token = 8, .prompt = true});
    medium_->flush();
    std::thread other([this] { medium_->carry_out(); });
    EXPECT_EQ(collect(1)[0].token, 8u);
    other.join();
  }
}

TEST_P(MediumContract, completes_every_request_exactly_once_however_many_are_in_flight) {
  constexpr std::uint32_t kMany = 3000;  // more than any ring holds
  constexpr std::uint32_t kPlaces = 256;
  const AlignedBuffer buffers(kMany * kBlock);
  for (std::uint32_t i = 0; i < kMany; ++i)
    medium_->submit(
        {.op = IoRequest::Op::kRead, .block = kFirst + i % kPlaces, .blocks = 1, .buffer = buffers.data() + i * kBlock, .token = i});
  medium_->flush();
  std::vector<int> seen(kMany, 0);
  for (const IoCompletion& done : collect(kMany)) {
    ASSERT_LT(done.token, kMany);
    EXPECT_EQ(done.error, 0);
    ++seen[done.token];
  }
  EXPECT_EQ(std::ranges::count(seen, 1), kMany);
  IoCompletion more[1];
  EXPECT_EQ(medium_->reap(more), 0u);
}

TEST_P(MediumContract, many_writes_in_flight_all_land) {
  constexpr std::uint32_t kMany = 64;
  const AlignedBuffer out(kMany * kBlock), in(kMany * kBlock);
  for (std::uint32_t i = 0; i < kMany; ++i) {
    paint(out.data() + i * kBlock, kBlock, i);
    medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst + i, .blocks = 1, .buffer = out.data() + i * kBlock, .token = i});
  }
  medium_->flush();
  for (const IoCompletion& done : collect(kMany)) EXPECT_EQ(done.error, 0);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, kMany, in.data()), 0);
  for (std::uint32_t i = 0; i < kMany; ++i) EXPECT_TRUE(painted(in.data() + i * kBlock, kBlock, i)) << i;
}

TEST_P(MediumContract, refuses_what_lies_outside_of_the_storage_as_a_completion) {
  const AlignedBuffer buffer(2 * kBlock);
  const std::uint64_t end = medium_->total_blocks();
  EXPECT_EQ(do_one(IoRequest::Op::kRead, end, 1, buffer.data()), EINVAL);
  EXPECT_EQ(do_one(IoRequest::Op::kWrite, end - 1, 2, buffer.data()), EINVAL);
  EXPECT_EQ(do_one(IoRequest::Op::kWrite, UINT64_MAX, 2, buffer.data()), EINVAL);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst, 0, buffer.data()), EINVAL);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst, kMaxRequestBytes / kBlock + 1, buffer.data()), EINVAL);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst, 1, buffer.data() + 8), EINVAL);
}

TEST_P(MediumContract, a_read_behind_the_end_of_a_file_cut_short_fails_with_an_error) {
  const AlignedBuffer buffer(2 * kBlock);
  scratch_->resize((kFirst + 1) * kBlock);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst, 2, buffer.data()), EIO);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst + 5, 1, buffer.data()), EIO);
}

TEST_P(MediumContract, wait_ends_at_the_deadline) {
  const Nanos deadline = boottime_now() + 3 * kMillisecond;
  while (boottime_now() < deadline) medium_->wait(deadline, 0);  // early returns are fine, never coming back is not
  medium_->wait(boottime_now() - kSecond, 100 * kMicrosecond);
  medium_->wait(boottime_now() + kMillisecond, 100 * kMicrosecond);
}

TEST_P(MediumContract, a_wake_before_the_wait_is_not_lost) {
  medium_->wake();
  medium_->wait(kNever, 0);
  medium_->wake();
  medium_->wait(kNever, 10 * kMicrosecond);
}

TEST_P(MediumContract, a_wake_from_another_thread_ends_every_wait) {
  constexpr int kRounds = 500;
  std::atomic<int> round{0};
  std::thread waker([&] {
    for (int i = 1; i <= kRounds; ++i) {
      round.store(i);
      medium_->wake();
      while (round.load() == i) std::this_thread::yield();
    }
  });
  // Each round goes on only after a wake was seen: a lost one would hang here.
  for (int i = 1; i <= kRounds; ++i) {
    while (round.load() != i) {
      medium_->wait(kNever, i % 2 == 0 ? 0 : 20 * kMicrosecond);
      IoCompletion none[4];
      EXPECT_EQ(medium_->reap(none), 0u);
    }
    round.store(-i);
  }
  waker.join();
}

TEST_P(MediumContract, a_descriptor_that_is_watched_ends_a_wait_once) {
  // What an agent has in it: an epoll, of descriptors that say each event once.
  const UniqueFd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {}};
  ASSERT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, bell.get(), &event), 0);
  IoCompletion none[1];
  if (!medium_->watch(epoll.get())) {
    EXPECT_FALSE(medium_->watching());
    EXPECT_EQ(dynamic_cast<UringMedium*>(medium_.get()), nullptr);
    return;  // other media need not be able to
  }
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(round == 0 || medium_->watch(epoll.get()));
    EXPECT_EQ(medium_->reap(none), 0u);
    EXPECT_TRUE(medium_->watching());
    std::thread rings([&] {
      const std::uint64_t one = 1;
      ASSERT_EQ(::write(bell.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    });
    while (medium_->watching()) {  // for ever: the runner's timeout is the bound
      medium_->wait(kNever, 0);
      EXPECT_EQ(medium_->reap(none), 0u);
    }
    rings.join();
    EXPECT_EQ(::epoll_wait(epoll.get(), &event, 1, 0), 1);
  }
}

TEST_P(MediumContract, a_descriptor_that_is_readable_already_ends_the_next_wait) {
  const UniqueFd bell(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!medium_->watch(bell.get())) return;  // as above
  IoCompletion none[1];
  while (medium_->watching()) {
    medium_->wait(kNever, 0);
    EXPECT_EQ(medium_->reap(none), 0u);
  }
}

TEST_P(MediumContract, a_request_submitted_while_another_thread_waits_ends_that_wait) {
  constexpr std::uint32_t kRounds = 300;
  const AlignedBuffer buffer(kBlock);
  std::mutex owner;  // the owner's lock of the contract
  std::atomic<std::uint32_t> reaped{0};
  std::thread waiter([&] {
    while (reaped.load() < kRounds) {
      medium_->wait(kNever, 0);
      std::lock_guard lock(owner);
      IoCompletion some[4];
      reaped.fetch_add(static_cast<std::uint32_t>(medium_->reap(some)));
    }
  });
  for (std::uint32_t i = 0; i < kRounds; ++i) {
    {
      std::lock_guard lock(owner);
      medium_->submit({.op = IoRequest::Op::kRead, .block = kFirst, .blocks = 1, .buffer = buffer.data(), .token = i});
      medium_->flush();
    }
    while (reaped.load() <= i) std::this_thread::yield();
  }
  waiter.join();
  EXPECT_EQ(reaped.load(), kRounds);
}

TEST_P(MediumContract, requests_of_threads_that_have_ended_complete_like_others) {
  constexpr std::uint32_t kThreads = 32;
  constexpr std::uint32_t kEach = 8;
  const AlignedBuffer buffers(kThreads * kEach * kBlock);
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    std::thread([&] {
      for (std::uint32_t i = t * kEach; i < (t + 1) * kEach; ++i) {
        paint(buffers.data() + i * kBlock, kBlock, i);
        medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst + i, .blocks = 1, .buffer = buffers.data() + i * kBlock, .token = i});
      }
      medium_->flush();
    }).join();
  }
  for (const IoCompletion& done : collect(kThreads * kEach)) EXPECT_EQ(done.error, 0) << done.token;
  const AlignedBuffer in(kBlock);
  for (std::uint32_t i = 0; i < kThreads * kEach; ++i) {
    ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst + i, 1, in.data()), 0);
    EXPECT_TRUE(painted(in.data(), kBlock, i)) << i;
  }
}

TEST_P(MediumContract, knows_what_each_thread_has_under_way_where_that_matters) {
  constexpr std::uint32_t kRequests = 8;
  const AlignedBuffer buffers(kRequests * kBlock);
  std::shared_ptr<const Medium::Count> of_thread;
  unsigned handed_in = 0;
  std::thread([&] {
    for (std::uint32_t i = 0; i < kRequests; ++i)
      medium_->submit({.op = IoRequest::Op::kRead, .block = kFirst + i, .blocks = 1, .buffer = buffers.data() + i * kBlock, .token = i});
    medium_->flush();
    of_thread = medium_->under_way_by_this_thread();
    if (of_thread != nullptr) handed_in = of_thread->load();
  }).join();
  (void)collect(kRequests);
  ASSERT_EQ(of_thread != nullptr, GetParam() == std::string("uring"));
  if (of_thread == nullptr) return;
  EXPECT_EQ(handed_in, kRequests);
  EXPECT_EQ(of_thread->load(), 0u);
  EXPECT_EQ(medium_->under_way_by_this_thread()->load(), 0u);
}

TEST_P(MediumContract, ends_only_after_its_requests_have_landed) {
  constexpr std::uint32_t kMany = 128;
  const AlignedBuffer out(kMany * kBlock), in(kMany * kBlock);
  for (std::uint32_t i = 0; i < kMany; ++i) {
    paint(out.data() + i * kBlock, kBlock, i + 9);
    medium_->submit({.op = IoRequest::Op::kWrite, .block = kFirst + i, .blocks = 1, .buffer = out.data() + i * kBlock, .token = i});
  }
  medium_.reset();
  ASSERT_TRUE(storage_->read(kFirst, in.span()));
  for (std::uint32_t i = 0; i < kMany; ++i) EXPECT_TRUE(painted(in.data() + i * kBlock, kBlock, i + 9)) << i;
}

TEST_P(MediumContract, outlives_the_storage_that_made_it) {
  const AlignedBuffer out(kBlock), in(kBlock);
  paint(out.data(), kBlock, 4);
  storage_.reset();
  ASSERT_EQ(do_one(IoRequest::Op::kWrite, kFirst, 1, out.data()), 0);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, 1, in.data()), 0);
  EXPECT_TRUE(painted(in.data(), kBlock, 4));
}

TEST_P(MediumContract, two_media_of_one_storage_work_side_by_side) {
  auto second = storage_->make_medium();
  ASSERT_TRUE(second);
  const AlignedBuffer out(kBlock), in(kBlock);
  paint(out.data(), kBlock, 5);
  ASSERT_EQ(do_one(IoRequest::Op::kWrite, kFirst, 1, out.data()), 0);
  std::swap(medium_, *second);
  ASSERT_EQ(do_one(IoRequest::Op::kRead, kFirst, 1, in.data()), 0);
  EXPECT_TRUE(painted(in.data(), kBlock, 5));
}

TEST_P(MediumContract, a_storage_opened_for_reading_takes_no_writes) {
  auto storage = Storage::open(scratch_->path(), Storage::Access::kReadOnly);
  ASSERT_TRUE(storage);
  auto medium = (*storage)->make_medium();
  ASSERT_TRUE(medium);
  std::swap(medium_, *medium);
  const AlignedBuffer buffer(kBlock);
  EXPECT_EQ(do_one(IoRequest::Op::kWrite, kFirst, 1, buffer.data()), EBADF);
  EXPECT_EQ(do_one(IoRequest::Op::kRead, kFirst, 1, buffer.data()), 0);
  std::swap(medium_, *medium);
}

TEST_P(MediumContract, its_own_threads_take_no_signals_of_the_program) {
  static std::atomic<pthread_t> taken_by;
  static std::atomic<int> taken;
  taken = 0;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    taken_by = pthread_self();
    ++taken;
  };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  const AlignedBuffer buffers(64 * kBlock);
  for (std::uint32_t i = 0; i < 64; ++i)
    medium_->submit({.op = IoRequest::Op::kRead, .block = kFirst, .blocks = 1, .buffer = buffers.data() + i * kBlock, .token = i});
  medium_->flush();
  // Sent to the process, blocked here: it stays pending unless some other thread takes it.
  sigset_t usr1, old_mask, pending;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, &old_mask);
  kill(getpid(), SIGUSR1);
  (void)collect(64);
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
  pthread_sigmask(SIG_SETMASK, &old_mask, nullptr);
  EXPECT_EQ(taken, 1);
  EXPECT_TRUE(pthread_equal(taken_by, pthread_self()));
  sigaction(SIGUSR1, &before, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Media, MediumContract, ::testing::Values("uring", "threads", "mapped"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST(MappedMedium, fails_for_good_when_its_memory_is_gone_and_the_program_lives_on) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadWrite);
  ASSERT_TRUE(storage) << storage.error().text;
  auto medium = (*storage)->make_medium();
  ASSERT_TRUE(medium);
  const AlignedBuffer buffer(kBlock);
  auto write = [&](std::uint64_t block) {
    (*medium)->submit({.op = IoRequest::Op::kWrite, .block = block, .blocks = 1, .buffer = buffer.data(), .token = 1});
    IoCompletion done[1];
    EXPECT_EQ((*medium)->reap(done), 1u);
    return done[0].error;
  };
  EXPECT_EQ(write(kFirst), 0);
  scratch.resize(kFirst * kBlock);
  EXPECT_EQ(write(kFirst), EIO);
  scratch.resize(scratch.superblock().geometry.total_bytes());
  EXPECT_EQ(write(kFirst), EIO);
  auto read = (*storage)->read(kFirst, buffer.span());
  EXPECT_TRUE(read);
}

TEST(MappedMedium, fails_when_its_memory_is_gone_in_our_own_threads_too) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadOnly);
  ASSERT_TRUE(storage) << storage.error().text;
  scratch.resize(kFirst * kBlock);
  std::thread thread;
  {
    const QuietThreads quiet;
    thread = std::thread([&] {
      const AlignedBuffer buffer(kBlock);
      EXPECT_FALSE((*storage)->read(kFirst, buffer.span()));
      sigset_t mask;
      ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, nullptr, &mask), 0);
      EXPECT_EQ(::sigismember(&mask, SIGTERM), 1);
      EXPECT_EQ(::sigismember(&mask, SIGPROF), 1);
    });
  }
  thread.join();
}

TEST(MappedMedium, hands_a_fault_that_is_not_its_own_to_the_program) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadWrite);
  ASSERT_TRUE(storage);
  const ScratchFile other(kBlock);
  const int fd = ::open(other.path().c_str(), O_RDWR | O_CLOEXEC);
  void* page = ::mmap(nullptr, kBlock, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ASSERT_NE(page, MAP_FAILED);
  ::close(fd);
  other.resize(0);
  // By the signal, or by whoever had a handler before us (sanitizers have).
  EXPECT_EXIT(
      {
        *static_cast<volatile char*>(page) = 1;
        _exit(0);
      },
      [](int status) { return WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0; }, "");
  ::munmap(page, kBlock);
}

// What a program does with SIGBUS itself, set up before anything is mapped: hence in a process that begins anew.
struct SigbusOfTheProgram : ::testing::Test {
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  void TearDown() override { GTEST_FLAG_SET(death_test_style, "fast"); }
  static void meet(void (*handler)(int), void (*handler_with_info)(int, siginfo_t*, void*), bool sent) {
    // Out of the handler first: exit() is nothing to do in one.
    if (const int status = sigsetjmp(out_of_handler, 1); status != 0) std::exit(status);
    struct sigaction action {};
    if (handler_with_info != nullptr) {
      action.sa_sigaction = handler_with_info;
      action.sa_flags = SA_SIGINFO;
    } else {
      action.sa_handler = handler;
    }
    ::sigaction(SIGBUS, &action, nullptr);
    const int fd = ::memfd_create("mapped", MFD_CLOEXEC);
    if (::ftruncate(fd, kBlock) != 0) std::exit(1);
    auto mapping = Mapping::create(fd, kBlock, true);
    if (!mapping) std::exit(2);
    if (sent) {
      ::raise(SIGBUS);
    } else {
      void* page = ::mmap(nullptr, kBlock, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (page == MAP_FAILED || ::ftruncate(fd, 0) != 0) std::exit(3);
      *static_cast<volatile char*>(page) = 1;
    }
    std::exit(44);
  }
  static void exit_with_42(int, siginfo_t*, void*) { siglongjmp(out_of_handler, 42); }
  static void exit_with_43(int) { siglongjmp(out_of_handler, 43); }
  static inline sigjmp_buf out_of_handler;
};

TEST_F(SigbusOfTheProgram, goes_to_its_handler) {
  EXPECT_EXIT(meet(nullptr, exit_with_42, false), ::testing::ExitedWithCode(42), "");
  EXPECT_EXIT(meet(exit_with_43, nullptr, false), ::testing::ExitedWithCode(43), "");
}

TEST_F(SigbusOfTheProgram, that_was_sent_does_what_it_would_without_us) {
  EXPECT_EXIT(meet(SIG_IGN, nullptr, true), ::testing::ExitedWithCode(44), "");
  EXPECT_EXIT(meet(SIG_DFL, nullptr, true), ::testing::KilledBySignal(SIGBUS), "");
}

TEST_F(SigbusOfTheProgram, that_is_a_fault_can_not_be_ignored) {
  EXPECT_EXIT(meet(SIG_IGN, nullptr, false), ::testing::KilledBySignal(SIGBUS), "");
}

TEST(MappedMedium, eight_aligned_bytes_never_tear) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadWrite);
  ASSERT_TRUE(storage);
  auto writer = (*storage)->make_medium(), reader = (*storage)->make_medium();
  ASSERT_TRUE(writer && reader);
  std::atomic<bool> stop{false};
  std::thread writing([&] {
    const AlignedBuffer buffer(kBlock);
    IoCompletion done[1];
    for (std::uint64_t i = 1; !stop.load(); ++i) {
      const std::uint64_t value = (i & 0xffffffff) * 0x100000001ull;  // both halves alike
      for (std::size_t at = 0; at < kBlock; at += 8) store_le<std::uint64_t>(buffer.data() + at, value);
      (*writer)->submit({.op = IoRequest::Op::kWrite, .block = kFirst, .blocks = 1, .buffer = buffer.data(), .token = 0});
      (*writer)->reap(done);
    }
  });
  const AlignedBuffer buffer(kBlock);
  IoCompletion done[1];
  for (int round = 0; round < 5000; ++round) {
    (*reader)->submit({.op = IoRequest::Op::kRead, .block = kFirst, .blocks = 1, .buffer = buffer.data(), .token = 0});
    (*reader)->reap(done);
    for (std::size_t at = 0; at < kBlock; at += 8) {
      const std::uint64_t value = load_le<std::uint64_t>(buffer.data() + at);
      ASSERT_EQ(value >> 32, value & 0xffffffff);
    }
  }
  stop = true;
  writing.join();
}

}  // namespace
}  // namespace stp::testing
