#include "stp/storage.h"

#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>

#include "failing_call.h"
#include "loop_device.h"
#include "scratch_storage.h"
#include "stp/content.h"
#include "stp/file_system.h"
#include "stp/lease.h"
#include "stp/system.h"
#include "stp/uring_medium.h"

namespace stp::testing {
namespace {

using Access = Storage::Access;

// The text of the error, "" where there is none.
std::string refusal(const std::string& path, Access access = Access::kReadWrite) {
  auto storage = Storage::open(path, access);
  return storage ? "" : storage.error().text;
}

::testing::AssertionResult says(const std::string& text, const std::vector<const char*>& parts) {
  for (const char* part : parts)
    if (text.find(part) == std::string::npos) return ::testing::AssertionFailure() << "no \"" << part << "\" in: " << text;
  return ::testing::AssertionSuccess();
}

bool has_direct_io(const std::string& path) {
  auto facts = probe_storage(path);
  return facts && facts->direct_io;
}

TEST(StorageOpen, gives_what_the_superblock_says) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage) << storage.error().text;
  EXPECT_EQ((*storage)->superblock(), scratch.superblock());
  EXPECT_FALSE((*storage)->superblock_is_copy());
  EXPECT_EQ((*storage)->path(), scratch.path());
  EXPECT_EQ((*storage)->medium_name(), "mapped");
}

TEST(StorageOpen, falls_back_to_the_copy_of_a_damaged_superblock) {
  for (const std::uint32_t block_size : {4096u, 16384u, 65536u}) {
    const ScratchStorage scratch(MediumKind::kMapped, block_size);
    const std::byte damage[1] = {std::byte{0xff}};
    write_at(scratch.path(), 200, damage);
    auto storage = Storage::open(scratch.path(), Access::kReadOnly);
    ASSERT_TRUE(storage) << storage.error().text;
    EXPECT_TRUE((*storage)->superblock_is_copy());
    EXPECT_EQ((*storage)->superblock(), scratch.superblock());
  }
}

TEST(StorageOpen, says_damaged_when_superblock_and_copy_are) {
  const ScratchStorage scratch(MediumKind::kMapped);
  const std::byte damage[1] = {std::byte{0xff}};
  write_at(scratch.path(), 200, damage);
  write_at(scratch.path(), scratch.superblock().geometry.superblock_copy() * 4096 + 200, damage);
  EXPECT_TRUE(says(refusal(scratch.path()), {scratch.path().c_str(), "superblock", "no good copy"}));
}

TEST(StorageOpen, tells_how_to_make_a_storage_where_there_is_none) {
  const ScratchFile zeros(1 << 20);
  EXPECT_TRUE(says(refusal(zeros.path()), {"holds no STP storage", "stp format"}));
  const ScratchFile nothing(0);
  EXPECT_TRUE(says(refusal(nothing.path()), {"holds no STP storage", "stp format"}));
  EXPECT_TRUE(says(refusal(zeros.path() + "-is-not-there"), {"No such file", "stp format"}));
}

TEST(StorageOpen, names_what_the_path_holds_instead) {
  const ScratchFile swap(1 << 20);
  // A version 1 swap header: version 1, last page 255, magic at the end of the first page.
  std::vector<std::byte> header(4096);
  store_le<std::uint32_t>(header.data() + 1024, 1);
  store_le<std::uint32_t>(header.data() + 1028, 255);
  std::ranges::copy(std::as_bytes(std::span("SWAPSPACE2", 10)), header.end() - 10);
  write_at(swap.path(), 0, header);
  EXPECT_TRUE(says(refusal(swap.path()), {"swap", "--force"}));
}

TEST(StorageOpen, refuses_what_is_neither_file_nor_device) {
  EXPECT_TRUE(says(refusal("/"), {"neither a regular file nor a block device"}));
  EXPECT_TRUE(says(refusal("/dev/null"), {"neither a regular file nor a block device"}));
}

TEST(StorageOpen, refuses_a_storage_that_was_cut_short) {
  const ScratchStorage scratch(MediumKind::kMapped);
  scratch.resize(scratch.superblock().geometry.total_bytes() - 4096);
  EXPECT_TRUE(says(refusal(scratch.path()), {"was formatted with", "only"}));
}

TEST(StorageOpen, reads_without_write_permission) {
  const ScratchStorage scratch(MediumKind::kMapped);
  ASSERT_EQ(::chmod(scratch.path().c_str(), 0444), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::chmod(".", 0755) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(77);
    if (::access(scratch.path().c_str(), R_OK) != 0) ::_exit(77);
    if (!refusal(scratch.path(), Access::kReadOnly).empty()) ::_exit(1);
    if (!says(refusal(scratch.path(), Access::kReadWrite), {"reading and writing", "Permission denied"})) ::_exit(2);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "can not become an unprivileged user that reaches the test's directory";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(StorageOpen, refuses_an_unknown_way_of_io_by_name) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  const ForcedIo io("uing");
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  auto medium = (*storage)->make_medium();
  ASSERT_FALSE(medium);
  EXPECT_TRUE(says(medium.error().text, {"STP_IO", "uing", "uring or threads"}));
}

TEST(StorageOpen, takes_the_medium_that_STP_IO_names) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  const ForcedIo io("threads");
  ASSERT_TRUE((*storage)->make_medium());
  EXPECT_EQ((*storage)->medium_name(), "direct (threads)");
}

TEST(StorageOpen, does_its_io_in_threads_where_io_uring_is_forbidden) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  for (const int error : {ENOSYS, EPERM}) {
    const pid_t child = ::fork();
    if (child == 0) {
      // In a process of its own: whether there is io_uring is found out once.
      if (!forbid_calls({{.number = SYS_io_uring_setup, .error = error}})) ::_exit(77);
      auto storage = Storage::open(scratch.path(), Access::kReadWrite);
      if (!storage) ::_exit(1);
      auto medium = (*storage)->make_medium();
      if (!medium || (*storage)->medium_name() != "direct (threads)") ::_exit(2);
      const ForcedIo io("uring");
      auto forced = (*storage)->make_medium();
      if (forced || !says(forced.error().text, {"STP_IO=uring", "refuses io_uring", "unset STP_IO"})) ::_exit(3);
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp filters here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

struct Refused {
  MediumKind medium;
  std::vector<FailingCall> calls;
  std::vector<const char*> words;
};

TEST(StorageOpen, says_what_the_system_refused) {
  const Refused all[] = {
      {MediumKind::kMapped, {{.number = SYS_openat, .error = EACCES}}, {"reading and writing", "Permission denied", "root must give"}},
      {MediumKind::kMapped, {{.number = SYS_openat, .error = ENFILE}}, {"reading and writing", "Too many open files in system"}},
      {MediumKind::kMapped, {{.number = SYS_newfstatat, .error = EIO, .argument = 3, .mask = AT_EMPTY_PATH}, {.number = SYS_fstat, .error = EIO}}, {"can not stat", "Input/output error"}},
      {MediumKind::kMapped, {{.number = SYS_pread64, .error = EIO}}, {"superblock at byte 0", "Input/output error"}},
      {MediumKind::kMapped, {{.number = SYS_mmap, .error = ENOMEM, .argument = 3, .mask = MAP_SHARED}}, {"can not map", "Cannot allocate memory"}},
      {MediumKind::kMapped, {{.number = SYS_fstatfs, .error = EIO}}, {"lies on unknown", "not known to be local", "--medium direct"}},
      {MediumKind::kDirect, {{.number = SYS_openat, .error = EINVAL, .argument = 2, .mask = O_DIRECT}}, {"does not allow direct I/O", "--medium mapped"}},
  };
  for (const Refused& one : all) {
    const ScratchStorage scratch(one.medium);
    if (one.medium == MediumKind::kDirect && !has_direct_io(scratch.path())) continue;
    std::string text;
    if (!with_failing(one.calls, [&] { text = refusal(scratch.path()); })) GTEST_SKIP() << "no seccomp filters here";
    EXPECT_TRUE(says(text, one.words));
    EXPECT_TRUE(says(text, {scratch.path().c_str()}));
    EXPECT_EQ(refusal(scratch.path()), "") << "nothing stays of it";
  }
}

TEST(StorageOpen, does_its_io_in_threads_where_one_more_ring_can_not_be_had) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  if (!UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
  for (const long number : {SYS_io_uring_setup, SYS_eventfd2}) {
    auto storage = Storage::open(scratch.path(), Access::kReadWrite);
    ASSERT_TRUE(storage);
    Result<std::unique_ptr<Medium>> medium = fail(0, ""), forced = fail(0, "");
    STP_WITH_FAILING(
        [&] {
          medium = (*storage)->make_medium();
          const ForcedIo io("uring");
          forced = (*storage)->make_medium();
        },
        FailingCall{.number = number, .error = EMFILE});
    EXPECT_TRUE(medium) << medium.error().text;
    EXPECT_EQ((*storage)->medium_name(), "direct (threads)");
    ASSERT_FALSE(forced);
    EXPECT_TRUE(says(forced.error().text, {"STP_IO=uring", "Too many open files", "unset STP_IO"}));
  }
}

TEST(StorageOpen, says_that_there_is_no_thread_for_its_io) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  const ForcedIo io("threads");
  std::string text;
  STP_WITH_FAILING(
      [&] {
        auto medium = (*storage)->make_medium();
        text = medium ? "" : medium.error().text;
      },
      FailingCall{.number = SYS_clone3, .error = EAGAIN}, FailingCall{.number = SYS_clone, .error = EAGAIN});
  EXPECT_TRUE(says(text, {"can not start a thread", "Resource temporarily unavailable"}));
}

TEST(StorageOpen, puts_the_faults_that_STP_FAULTS_names_into_its_media) {
  const ScratchStorage scratch(MediumKind::kMapped);
  const auto open_with = [&](const char* faults) {
    auto storage = Storage::open(scratch.path(), Access::kReadWrite);
    EXPECT_EQ(::setenv("STP_FAULTS", faults, 1), 0);
    auto medium = (*storage)->make_medium();
    EXPECT_EQ(::unsetenv("STP_FAULTS"), 0);
    return std::pair(*storage, std::move(medium));
  };
  const auto [refused, nothing] = open_with("eio=many");
  ASSERT_FALSE(nothing);
  EXPECT_TRUE(says(nothing.error().text, {"STP_FAULTS is", "eio", "correct it, or unset it"}));
  const auto [well, sound] = open_with("");
  EXPECT_TRUE(sound);
  EXPECT_EQ(well->faults(), "");
  const auto [storage, medium] = open_with("eio=100%");
  ASSERT_TRUE(medium) << medium.error().text;
  EXPECT_TRUE(says(storage->faults(), {"eio_read=1", "eio_write=1", "seed="})) << "so that the same can be asked for again";
  const AlignedBuffer buffer(4096);
  (*medium)->submit({.op = IoRequest::Op::kRead, .block = 8, .blocks = 1, .buffer = buffer.data(), .token = 1});
  (*medium)->flush();
  IoCompletion done[1];
  while ((*medium)->reap(done) == 0) (*medium)->wait(kNever, 0);
  EXPECT_EQ(done[0].error, EIO);
}

TEST(StorageOpen, bounds_its_media_in_words) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  if (!UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  const ForcedIo io("uring");
  std::vector<std::unique_ptr<Medium>> media;
  for (;;) {
    auto medium = (*storage)->make_medium();
    if (!medium) {
      EXPECT_TRUE(says(medium.error().text, {"too many media on one open storage"}));
      break;
    }
    media.push_back(std::move(*medium));
    ASSERT_LT(media.size(), 1000u);
  }
  media.pop_back();
  EXPECT_TRUE((*storage)->make_medium()) << "one place is free again";
}

TEST(StorageOpen, gives_its_descriptors_back_when_it_is_abandoned) {
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  for (const MediumKind kind : {MediumKind::kDirect, MediumKind::kMapped}) {
    const ScratchStorage scratch(kind);
    if (kind == MediumKind::kDirect && (!has_direct_io(scratch.path()) || !UringMedium::available())) continue;
    const auto before = descriptors();
    auto storage = Storage::open(scratch.path(), Access::kReadWrite);
    ASSERT_TRUE(storage);
    auto medium = (*storage)->make_medium();
    ASSERT_TRUE(medium);
    EXPECT_GT(descriptors(), before);
    (*storage)->abandon_after_fork();
    EXPECT_EQ(descriptors(), before);
    (*storage)->abandon_after_fork();
    medium->reset();
    storage->reset();
    EXPECT_EQ(descriptors(), before) << "and none of somebody else's";
  }
}

TEST(StorageReadWrite, says_at_which_block_the_system_failed) {
  const ScratchStorage scratch(MediumKind::kDirect);
  if (!has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  std::vector<std::byte> bytes(4096);
  Result<void> read, written;
  STP_WITH_FAILING(
      [&] {
        read = (*storage)->read(8, bytes);
        written = (*storage)->write(9, bytes);
      },
      FailingCall{.number = SYS_pread64, .error = EIO}, FailingCall{.number = SYS_pwrite64, .error = ENOSPC});
  ASSERT_FALSE(read);
  ASSERT_FALSE(written);
  EXPECT_EQ(read.error().code, EIO);
  EXPECT_TRUE(says(read.error().text, {"can not read", "block 8", "Input/output error"}));
  EXPECT_EQ(written.error().code, ENOSPC);
  EXPECT_TRUE(says(written.error().text, {"can not write", "block 9", "No space left"}));
}

TEST(StorageReadWrite, moves_any_number_of_whole_blocks_from_any_memory) {
  for (const MediumKind kind : {MediumKind::kDirect, MediumKind::kMapped}) {
    const ScratchStorage scratch(kind);
    if (kind == MediumKind::kDirect && !has_direct_io(scratch.path())) continue;
    auto storage = Storage::open(scratch.path(), Access::kReadWrite);
    ASSERT_TRUE(storage);
    constexpr std::size_t kSize = 200 * 4096;  // more than one request
    std::vector<std::byte> out(kSize + 1), in(kSize + 1);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7 / 3);
    ASSERT_TRUE((*storage)->write(8, ConstBytes(out).subspan(1)));
    ASSERT_TRUE((*storage)->read(8, Bytes(in).subspan(1)));
    EXPECT_TRUE(std::equal(out.begin() + 1, out.end(), in.begin() + 1));
    EXPECT_TRUE((*storage)->read(8, Bytes()));
  }
}

TEST(StorageReadWrite, refuses_what_is_not_whole_blocks_inside) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  std::vector<std::byte> bytes(2 * 4096);
  const std::uint64_t end = scratch.superblock().geometry.total_blocks;
  EXPECT_FALSE((*storage)->read(0, Bytes(bytes).first(100)));
  EXPECT_FALSE((*storage)->read(end - 1, bytes));
  EXPECT_FALSE((*storage)->write(UINT64_MAX, bytes));
  auto read_only = Storage::open(scratch.path(), Access::kReadOnly);
  ASSERT_TRUE(read_only);
  EXPECT_TRUE(says((*read_only)->write(8, bytes).error().text, {"for reading only"}));
}

TEST(StorageFactsOf, a_file_names_its_file_system_and_size) {
  const ScratchFile scratch(8192);
  auto facts = probe_storage(scratch.path());
  ASSERT_TRUE(facts);
  EXPECT_FALSE(facts->block_device);
  EXPECT_EQ(facts->size_bytes, 8192u);
  EXPECT_FALSE(facts->file_system.empty());
  EXPECT_GE(facts->logical_block_bytes, 512u);
  EXPECT_GE(facts->physical_block_bytes, facts->logical_block_bytes);
}

TEST(StorageFactsOf, memory_is_no_hardware) {
  const int fd = ::memfd_create("memory", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  auto facts = probe_storage("/proc/self/fd/" + std::to_string(fd));
  ASSERT_TRUE(facts) << facts.error().text;
  EXPECT_FALSE(facts->hardware);
  ::close(fd);
}

TEST(StorageFactsOf, proc_is_not_taken_for_a_local_disk) {
  const int fd = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) GTEST_SKIP() << "no /proc";
  EXPECT_TRUE(file_system_of(fd).network);
  ::close(fd);
}

// -- Locks ------------------------------------------------------------------------------------------------------------

TEST(StorageLocks, one_open_of_a_storage_excludes_the_other) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto first = Storage::open(scratch.path(), Access::kReadWrite);
  auto second = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(first && second);
  SlotLocks& mine = (*first)->locks();
  SlotLocks& other = (*second)->locks();
  if (!mine.usable()) GTEST_SKIP() << "no open-file-description locks in the test's directory (" << (*first)->facts().file_system << ")";
  EXPECT_EQ((*first)->identity(), (*second)->identity());
  EXPECT_TRUE(mine.acquire(1));
  EXPECT_TRUE(mine.acquire(1)) << "its own again";
  EXPECT_EQ(mine.probe(1), SlotLocks::State::kFree) << "no other holds it";
  EXPECT_FALSE(other.acquire(1));
  EXPECT_EQ(other.probe(1), SlotLocks::State::kHeld);
  EXPECT_EQ(other.probe(0), SlotLocks::State::kFree);
  EXPECT_TRUE(other.acquire(0));
  mine.release(1);
  EXPECT_EQ(other.probe(1), SlotLocks::State::kFree);
  EXPECT_TRUE(other.acquire(1));
  second->reset();
  EXPECT_EQ(mine.probe(1), SlotLocks::State::kFree);
}

TEST(StorageLocks, an_open_for_reading_can_look_and_not_take) {
  const ScratchStorage scratch(MediumKind::kMapped);
  auto holder = Storage::open(scratch.path(), Access::kReadWrite);
  auto looker = Storage::open(scratch.path(), Access::kReadOnly);
  ASSERT_TRUE(holder && looker);
  if (!(*holder)->locks().usable()) GTEST_SKIP() << "no open-file-description locks here";
  ASSERT_TRUE((*holder)->locks().acquire(0));
  EXPECT_EQ((*looker)->locks().probe(0), SlotLocks::State::kHeld);
  EXPECT_FALSE((*looker)->locks().acquire(1));
}

TEST(StorageLocks, that_the_system_does_not_know_tell_nothing) {
  constexpr FailingCall kNoLocks{.number = SYS_fcntl, .error = EINVAL, .argument = 1, .mask = F_OFD_GETLK};
  const ScratchStorage scratch(MediumKind::kMapped);
  Lease lease;
  STP_WITH_FAILING(
      [&] {
        auto storage = Storage::open(scratch.path(), Access::kReadWrite);
        ASSERT_TRUE(storage);
        SlotLocks& locks = (*storage)->locks();
        EXPECT_FALSE(locks.usable());
        EXPECT_FALSE(locks.acquire(0));
        EXPECT_EQ(locks.probe(0), SlotLocks::State::kUnknown);
        locks.release(0);
        lease.boot_id = (*storage)->identity().boot_id;
        lease.device = (*storage)->identity().device;
        lease.inode = (*storage)->identity().inode;
        EXPECT_EQ((*storage)->holder(0, lease), BlockSource::Holder::kUnknown);
      },
      kNoLocks);
  // The same when they stop working later.
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  if (!(*storage)->locks().usable()) GTEST_SKIP() << "no open-file-description locks here";
  EXPECT_EQ((*storage)->holder(0, lease), BlockSource::Holder::kGone);
  BlockSource::Holder holder{};
  STP_WITH_FAILING([&] { holder = (*storage)->holder(0, lease); }, kNoLocks);
  EXPECT_EQ(holder, BlockSource::Holder::kUnknown);
  lease.inode ^= 1;
  EXPECT_EQ((*storage)->holder(0, lease), BlockSource::Holder::kUnknown) << "a lock of another file";
}

// A child process that holds slot 0, and a medium, until it is killed.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    int ready[2];
    EXPECT_EQ(::pipe(ready), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      auto storage = Storage::open(path, Access::kReadWrite);
      if (!storage || !(*storage)->make_medium() || !(*storage)->locks().acquire(0)) ::_exit(1);
      auto medium = (*storage)->make_medium();
      if (::write(ready[1], "x", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    holds_ = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
  }
  ~Holder() { kill_it(); }
  bool holds() const { return holds_; }
  void kill_it() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  bool holds_ = false;
};

class LocksOfProcesses : public ::testing::TestWithParam<const char*> {};

TEST_P(LocksOfProcesses, a_lock_is_seen_held_and_ends_with_the_process_that_is_killed) {
  const bool mapped = GetParam() == std::string("mapped");
  const ForcedIo io(mapped ? nullptr : GetParam());
  const ScratchStorage scratch(mapped ? MediumKind::kMapped : MediumKind::kDirect);
  if (!mapped && !has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  if (GetParam() == std::string("uring") && !UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
  Holder holder(scratch.path());
  ASSERT_TRUE(holder.holds());
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(storage);
  SlotLocks& locks = (*storage)->locks();
  if (!locks.usable()) GTEST_SKIP() << "no open-file-description locks here";
  EXPECT_EQ(locks.probe(0), SlotLocks::State::kHeld);
  EXPECT_FALSE(locks.acquire(0));
  holder.kill_it();
  // The kernel closes a ring behind the back of wait(2): not at once, but by itself.
  while (!locks.acquire(0)) ::usleep(100);
}

TEST_P(LocksOfProcesses, a_forked_child_that_abandons_the_storage_does_not_keep_the_lock) {
  const bool mapped = GetParam() == std::string("mapped");
  const ForcedIo io(mapped ? nullptr : GetParam());
  const ScratchStorage scratch(mapped ? MediumKind::kMapped : MediumKind::kDirect);
  if (!mapped && !has_direct_io(scratch.path())) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  if (GetParam() == std::string("uring") && !UringMedium::available()) GTEST_SKIP() << UringMedium::available().error().text;
  auto looker = Storage::open(scratch.path(), Access::kReadWrite);
  auto storage = Storage::open(scratch.path(), Access::kReadWrite);
  ASSERT_TRUE(looker && storage);
  if (!(*storage)->locks().usable()) GTEST_SKIP() << "no open-file-description locks here";
  auto medium = (*storage)->make_medium();
  ASSERT_TRUE(medium);
  ASSERT_TRUE((*storage)->locks().acquire(0));
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    (*storage)->abandon_after_fork();
    medium->reset();  // must neither hang nor harm
    storage->reset();
    if (::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  medium->reset();
  EXPECT_EQ((*looker)->locks().probe(0), SlotLocks::State::kHeld) << "still the parent's";
  storage->reset();
  while ((*looker)->locks().probe(0) != SlotLocks::State::kFree) ::usleep(100);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

INSTANTIATE_TEST_SUITE_P(Media, LocksOfProcesses, ::testing::Values("uring", "threads", "mapped"),
                         [](const auto& parameter) { return std::string(parameter.param); });

// -- Block devices ----------------------------------------------------------------------------------------------------

class OnLoopDevice : public ::testing::TestWithParam<unsigned> {};

TEST_P(OnLoopDevice, a_direct_storage_opens_reads_writes_and_locks) {
  const ScratchStorage scratch(MediumKind::kDirect);
  const LoopDevice device(scratch.path(), GetParam());
  STP_NEED_DEVICE(device);
  auto storage = Storage::open(device.path(), Access::kReadWrite);
  ASSERT_TRUE(storage) << storage.error().text;
  EXPECT_TRUE((*storage)->facts().block_device);
  EXPECT_EQ((*storage)->facts().logical_block_bytes, GetParam());
  EXPECT_EQ((*storage)->facts().file_system, "");
  auto medium = (*storage)->make_medium();
  ASSERT_TRUE(medium) << medium.error().text;
  const AlignedBuffer out(4096), in(4096);
  std::ranges::fill(out.span(), std::byte{0x42});
  (*medium)->submit({.op = IoRequest::Op::kWrite, .block = 9, .blocks = 1, .buffer = out.data(), .token = 1});
  (*medium)->flush();
  IoCompletion done[1];
  while ((*medium)->reap(done) == 0) (*medium)->wait(kNever, 0);
  EXPECT_EQ(done[0].error, 0);
  auto other = Storage::open(device.path(), Access::kReadWrite);
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->read(9, in.span()));
  EXPECT_TRUE(std::ranges::equal(in.span(), out.span()));
  ASSERT_TRUE((*storage)->locks().usable());
  EXPECT_TRUE((*storage)->locks().acquire(0));
  EXPECT_FALSE((*other)->locks().acquire(0));
  EXPECT_NE((*storage)->identity(), StorageIdentity{});
}

TEST_P(OnLoopDevice, a_mapped_storage_is_refused_in_words) {
  const ScratchStorage scratch(MediumKind::kMapped);
  const LoopDevice device(scratch.path(), GetParam());
  STP_NEED_DEVICE(device);
  EXPECT_TRUE(says(refusal(device.path()), {"block device", "memory mapping", "--medium direct"}));
}

TEST_P(OnLoopDevice, a_size_that_can_not_be_asked_for_is_said) {
  const ScratchStorage scratch(MediumKind::kDirect);
  const LoopDevice device(scratch.path(), GetParam());
  STP_NEED_DEVICE(device);
  std::string text;
  STP_WITH_FAILING([&] { text = refusal(device.path()); }, FailingCall{.number = SYS_ioctl, .error = EIO, .argument = 1, .mask = static_cast<std::uint32_t>(BLKGETSIZE64)});
  EXPECT_TRUE(says(text, {"can not ask", device.path().c_str(), "for its size"}));
}

TEST_P(OnLoopDevice, is_hardware_only_if_its_requests_reach_some) {
  const ScratchFile scratch(1 << 20);
  const bool below = probe_storage(scratch.path()).value().hardware;
  {
    const LoopDevice device(scratch.path(), GetParam());
    STP_NEED_DEVICE(device);
    EXPECT_FALSE(probe_storage(device.path()).value().hardware) << "the page cache lies between";
  }
  const LoopDevice device(scratch.path(), GetParam(), "--direct-io=on");
  STP_NEED_DEVICE(device);
  EXPECT_EQ(probe_storage(device.path()).value().hardware, below);
}

INSTANTIATE_TEST_SUITE_P(Sectors, OnLoopDevice, ::testing::Values(512u, 4096u),
                         [](const auto& parameter) { return "of_" + std::to_string(parameter.param); });

TEST(StorageIdentityOf, files_are_told_apart) {
  const ScratchStorage one(MediumKind::kMapped), two(MediumKind::kMapped);
  auto first = Storage::open(one.path(), Access::kReadOnly), second = Storage::open(two.path(), Access::kReadOnly);
  ASSERT_TRUE(first && second);
  EXPECT_NE((*first)->identity(), (*second)->identity());
  EXPECT_EQ((*first)->identity().boot_id, boot_id());
}

TEST(SystemClock, does_not_go_back) {
  Nanos last = 0;
  for (int i = 0; i < 1000; ++i) {
    const Nanos now = boottime_now();
    ASSERT_GE(now, last);
    last = now;
  }
  EXPECT_GT(last, 0);
}

TEST(SystemRandom, comes_from_the_device_where_the_call_is_forbidden) {
  std::vector<std::uint64_t> all;
  STP_WITH_FAILING(
      [&] {
        SystemRandom random;
        for (int i = 0; i < 100; ++i) all.push_back(random.next());
      },
      FailingCall{.number = SYS_getrandom, .error = ENOSYS});
  std::ranges::sort(all);
  EXPECT_EQ(std::ranges::adjacent_find(all), all.end());
  EXPECT_GT(all.back(), std::uint64_t{1} << 60);
}

TEST(SystemClock, knows_the_wall_clock) { EXPECT_NEAR(static_cast<double>(wall_clock_ms()) / 1000, static_cast<double>(std::time(nullptr)), 2); }

TEST(SystemRandom, does_not_repeat_itself) {
  SystemRandom a, b;
  std::vector<std::uint64_t> all;
  for (int i = 0; i < 1000; ++i) {
    all.push_back(a.next());
    all.push_back(b.next());
  }
  std::ranges::sort(all);
  EXPECT_EQ(std::ranges::adjacent_find(all), all.end());
}

}  // namespace
}  // namespace stp::testing
