#include "stp/formatter.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "stp/checker.h"
#include "stp/names.h"
#include "stp/raw_file.h"
#include "stp/repair.h"
#include "stp/superblock_finder.h"
#include "tests/unit/failing_call.h"
#include "tests/unit/loop_device.h"
#include "tests/unit/memory_storage.h"
#include "tests/unit/scratch_storage.h"

namespace stp {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

struct Format : ::testing::Test {
  testing::ScratchFile file;
  testing::ManualClock clock;
  std::vector<std::string> warnings;

  FormatRequest request() {
    FormatRequest r;
    r.path = file.path();
    r.stg = "site-a";
    r.size_bytes = 32 * kMiB;
    r.hosts = 4;
    r.sockets = 256;
    r.clock = clock.clock();
    r.warn = [this](const std::string& text) { warnings.push_back(text); };
    // Any file system that the tests run on, tmpfs included.
    if (auto facts = probe_storage(file.path()); facts && !facts->direct_io) r.medium = MediumKind::kMapped;
    return r;
  }
  Superblock format() {
    auto made = format_storage(request());
    EXPECT_TRUE(made) << made.error().text;
    return made.value_or(Superblock{});
  }
  void flip(std::uint64_t offset) {
    auto raw = RawFile::open(file.path(), {.write = true});
    ASSERT_TRUE(raw);
    const AlignedBuffer block(4096);
    ASSERT_TRUE(raw->read(offset / 4096 * 4096, block.span()));
    block.data()[offset % 4096] ^= std::byte{0xff};
    ASSERT_TRUE(raw->write(offset / 4096 * 4096, block.span()));
  }
  void write_text(const std::string& text, std::uint64_t size) {
    FILE* f = std::fopen(file.path().c_str(), "wb");
    ASSERT_NE(f, nullptr);
    std::fwrite(text.data(), 1, text.size(), f);
    std::fclose(f);
    file.resize(size);
  }
  // A host in slot 1 of the storage, on another kernel; beats whenever the clock sleeps if it is `alive`.
  void put_host(bool alive) {
    auto beat = [this, n = std::uint64_t{0}]() mutable {
      auto storage = Storage::open(file.path(), Storage::Access::kReadWrite);
      ASSERT_TRUE(storage);
      Lease l;
      l.owner = {.slot = 1, .incarnation = 3, .nonce = 4};
      l.state = LeaseState::kOwned;
      l.name = "alpha";
      l.beat = ++n;
      std::vector<std::byte> block((*storage)->superblock().geometry.block_size);
      encode_lease(block, l, (*storage)->superblock().uuid, (*storage)->superblock().geometry);
      ASSERT_TRUE((*storage)->write((*storage)->superblock().geometry.lease(1), block));
    };
    beat();
    if (alive) clock.on_sleep = beat;
  }
  void expect_refused(int code, std::initializer_list<const char*> words) {
    const auto made = format_storage(request());
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, code) << made.error().text;
    for (const char* w : words) EXPECT_NE(made.error().text.find(w), std::string::npos) << made.error().text;
  }
};

TEST_F(Format, MakesAStorageThatChecks) {
  const Superblock made = format();
  EXPECT_EQ(made.stg, "site-a");
  auto storage = Storage::open(file.path(), Storage::Access::kReadOnly);
  ASSERT_TRUE(storage) << storage.error().text;
  EXPECT_EQ((*storage)->superblock(), made);
  EXPECT_FALSE((*storage)->superblock_is_copy());
  CheckRequest check;
  check.clock = clock.clock();
  const auto sum = check_storage(**storage, check);
  ASSERT_TRUE(sum);
  EXPECT_EQ(sum->faults + sum->warnings, 0u);
}

TEST_F(Format, PreallocatesEverythingByWriting) {
  std::uint64_t last = 0, total = 0;
  FormatRequest r = request();
  r.progress = [&](std::uint64_t done, std::uint64_t all) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
    return true;
  };
  ASSERT_TRUE(format_storage(r));
  EXPECT_EQ(last, 32 * kMiB);
  EXPECT_EQ(total, 32 * kMiB);
  struct stat st {};
  ASSERT_EQ(::stat(file.path().c_str(), &st), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(st.st_size), 32 * kMiB);
  EXPECT_GE(static_cast<std::uint64_t>(st.st_blocks) * 512, 32 * kMiB) << "no holes";
}

TEST_F(Format, RefusesAnotherStgAndNamesIt) {
  const Superblock old = format();
  expect_refused(EEXIST, {"site-a", to_string(old.uuid).c_str(), "--force"});
  FormatRequest r = request();
  r.force = true;
  const auto made = format_storage(r);
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_NE(made->uuid, old.uuid);
  EXPECT_EQ(warnings.size(), 1u);
}

TEST_F(Format, RefusesAnStgOfWhichOnlyTheCopyIsGood) {
  format();
  flip(100);
  expect_refused(EEXIST, {"site-a"});
}

TEST_F(Format, NamesLiveHosts) {
  format();
  put_host(true);
  expect_refused(EBUSY, {"alive", "alpha"});
  FormatRequest r = request();
  r.force = true;
  EXPECT_TRUE(format_storage(r));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("alpha"), std::string::npos);
}

TEST_F(Format, NamesSilentHosts) {
  format();
  put_host(false);
  expect_refused(EEXIST, {"alpha", "none of which was seen alive"});
}

TEST_F(Format, RefusesDataThatIsNotOurs) {
  write_text("dear diary", 32 * kMiB);
  expect_refused(EEXIST, {"not known"});
}

TEST_F(Format, RefusesAFileSystemByNameAndLabel) {
  // The superblock of an ext2 file system, as much of it as identifies one.
  std::string disk(8192, '\0');
  const auto put = [&disk](std::size_t at, std::initializer_list<unsigned char> bytes) {
    for (const unsigned char b : bytes) disk[1024 + at++] = static_cast<char>(b);
  };
  put(0, {0x00, 0x02, 0, 0});               // inodes
  put(4, {0x00, 0x20, 0, 0});               // blocks
  put(0x18, {0, 0, 0, 0});                  // block size 1024
  put(0x38, {0x53, 0xef});                  // magic
  put(0x4c, {1, 0, 0, 0});                  // revision
  put(0x78, {'p', 'h', 'o', 't', 'o', 's'});  // label
  write_text(disk, 32 * kMiB);
  expect_refused(EEXIST, {"ext2 file system", "photos"});
}

TEST_F(Format, AnInterruptedFormatLeavesNoStorageNeitherOldNorNew) {
  format();
  FormatRequest r = request();
  r.force = true;
  r.progress = [](std::uint64_t done, std::uint64_t) { return done < 4 * kMiB; };
  const auto made = format_storage(r);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ECANCELED);
  auto raw = RawFile::open(file.path(), {});
  ASSERT_TRUE(raw);
  EXPECT_TRUE(find_superblocks(*raw, raw->size().value()).empty());
  EXPECT_FALSE(Storage::open(file.path(), Storage::Access::kReadOnly));
  EXPECT_TRUE(format_storage(request())) << "and can be formatted again without --force";
}

TEST_F(Format, AFileThatItMadeIsRemovedWhenItFails) {
  FormatRequest r = request();
  r.path += ".new";
  r.size_bytes = kMiB;
  EXPECT_FALSE(format_storage(r));
  struct stat st {};
  EXPECT_NE(::stat(r.path.c_str(), &st), 0);
}

TEST_F(Format, RefusesNonsenseBeforeItTouchesAnything) {
  write_text("", 0);
  for (const auto& change : std::initializer_list<std::function<void(FormatRequest&)>>{
           [](FormatRequest& r) { r.stg = "no good"; }, [](FormatRequest& r) { r.timing = "wan"; }, [](FormatRequest& r) { r.block_size = 1000; },
           [](FormatRequest& r) { r.hosts = 1; }, [](FormatRequest& r) { r.size_bytes = kMiB; }}) {
    FormatRequest r = request();
    change(r);
    EXPECT_FALSE(format_storage(r));
  }
  struct stat st {};
  ASSERT_EQ(::stat(file.path().c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 0);
}

TEST_F(Format, RefusesWhatIsNoPlaceForAStorage) {
  const auto refusal = [this](const std::string& path) {
    FormatRequest r = request();
    r.path = path;
    const auto made = format_storage(r);
    EXPECT_FALSE(made);
    return made ? "" : made.error().text;
  };
  EXPECT_NE(refusal("/dev/null").find("neither a regular file nor a block device"), std::string::npos);
  EXPECT_NE(refusal("/").find("neither a regular file nor a block device"), std::string::npos);
  EXPECT_NE(refusal("/dev/null/x").find("can not be looked at"), std::string::npos);
  EXPECT_NE(refusal(file.path() + "-is-no-directory/x").find("can not open"), std::string::npos);
}

TEST_F(Format, NamesTheStgAfterTheFileWhereItsNameAllows) {
  const auto name_of = [this](const std::string& path) {
    FormatRequest r = request();
    r.path = path;
    r.stg = "";
    const auto made = format_storage(r);
    EXPECT_TRUE(made) << made.error().text;
    EXPECT_EQ(::unlink(path.c_str()), 0);
    return made ? made->stg : "";
  };
  EXPECT_EQ(name_of(file.path() + "-dir"), std::string("stp-test-" + fold_name(file.path().substr(file.path().size() - 6)) + "-dir"));
  EXPECT_EQ(name_of("My Disk_7.img"), "my-disk-7");
  EXPECT_EQ(name_of(std::string(60, 'a')), std::string(kMaxStgName, 'a'));
}

TEST_F(Format, MapsWhereItIsAskedTo) {
  FormatRequest r = request();
  r.medium = MediumKind::kMapped;
  const auto made = format_storage(r);
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_EQ(made->medium, MediumKind::kMapped);
  EXPECT_EQ(Storage::open(file.path(), Storage::Access::kReadWrite).value()->medium_name(), "mapped");
}

TEST_F(Format, MapsInMemoryUnlessItIsAskedNotTo) {
  ASSERT_EQ(::setenv("TMPDIR", "/dev/shm", 1), 0);
  const testing::ScratchFile in_memory;
  ASSERT_EQ(::unsetenv("TMPDIR"), 0);
  const auto facts = probe_storage(in_memory.path());
  if (!facts || facts->file_system != "tmpfs") GTEST_SKIP() << "/dev/shm is no tmpfs here";
  FormatRequest r = request();
  r.path = in_memory.path();
  r.medium = {};
  EXPECT_EQ(format_storage(r).value().medium, MediumKind::kMapped);
}

struct FormatRefused {
  std::optional<MediumKind> medium;
  std::vector<testing::FailingCall> calls;
  std::vector<const char*> words;
};

TEST_F(Format, SaysWhatTheSystemRefusedAndLeavesNoFile) {
  if (!probe_storage(file.path()).value().direct_io) GTEST_SKIP() << "no O_DIRECT in the test's directory";
  const FormatRefused all[] = {
      {{}, {{.number = SYS_getrandom, .error = ENOSYS}}, {"random numbers", "Function not implemented"}},
      {{}, {{.number = SYS_ftruncate, .error = EFBIG}}, {"can not set the size", "File too large"}},
      {{}, {{.number = SYS_fallocate, .error = ENOSPC}}, {"no room for 32", "No space left"}},
      {{}, {{.number = SYS_fallocate, .error = EDQUOT}}, {"no room for 32", "quota"}},
      {{}, {{.number = SYS_fallocate, .error = EFBIG}}, {"no room for 32", "File too large"}},
      {{}, {{.number = SYS_pwrite64, .error = EIO}}, {"can not write at offset", "Input/output error"}},
      {{}, {{.number = SYS_fsync, .error = EIO}}, {"can not write everything", "Input/output error"}},
      {MediumKind::kMapped, {{.number = SYS_fstatfs, .error = EIO}}, {"lies on unknown", "mapped mode is not safe"}},
      {MediumKind::kDirect, {{.number = SYS_openat, .error = EINVAL, .argument = 2, .mask = O_DIRECT}}, {"no direct I/O", "--medium mapped"}},
  };
  for (const FormatRefused& one : all) {
    FormatRequest r = request();
    r.path += ".new";
    r.medium = one.medium;
    Result<Superblock> made = fail(0, "");
    if (!testing::with_failing(one.calls, [&] { made = format_storage(r); })) GTEST_SKIP() << "no seccomp filters here";
    ASSERT_FALSE(made) << one.words[0];
    for (const char* words : one.words) EXPECT_NE(made.error().text.find(words), std::string::npos) << made.error().text;
    struct stat st {};
    EXPECT_NE(::stat(r.path.c_str(), &st), 0) << one.words[0];
  }
}

TEST_F(Format, TakesAFileSystemThatCanNotPreallocateOrHasNoDirectIo) {
  FormatRequest r = request();
  r.medium = {};
  Result<Superblock> made = fail(0, "");
  STP_WITH_FAILING([&] { made = format_storage(r); }, testing::FailingCall{.number = SYS_fallocate, .error = EOPNOTSUPP});
  EXPECT_TRUE(made) << made.error().text;
  r.force = true;
  for (const int error : {EINVAL, EOPNOTSUPP}) {
    STP_WITH_FAILING([&] { made = format_storage(r); },
                     testing::FailingCall{.number = SYS_openat, .error = error, .argument = 2, .mask = O_DIRECT});
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_EQ(made->medium, MediumKind::kMapped) << "nothing else is left";
  }
}

TEST_F(Format, DoesNotTakeWhatItCanNotReadForEmpty) {
  const Superblock old = format();
  Result<Superblock> made = fail(0, "");
  STP_WITH_FAILING([&] { made = format_storage(request()); }, testing::FailingCall{.number = SYS_pread64, .error = EIO});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, EEXIST);
  EXPECT_NE(made.error().text.find("can not be read"), std::string::npos) << made.error().text;
  EXPECT_NE(made.error().text.find("--force"), std::string::npos) << made.error().text;
  EXPECT_EQ(Storage::open(file.path(), Storage::Access::kReadOnly).value()->superblock(), old);
}

TEST_F(Format, LooksIntoSmallFilesToo) {
  for (const std::uint64_t size : {std::uint64_t{100}, std::uint64_t{8192}}) {
    write_text("dear diary", size);
    expect_refused(EEXIST, {"not known"});
    write_text("", size);
    EXPECT_TRUE(format_storage(request())) << "nothing but zeros";
  }
}

TEST_F(Format, RefusesAPartitionTable) {
  std::string disk(8192, '\0');
  disk[446 + 4] = '\x83';  // one partition of Linux's type
  disk[446 + 8] = 8;
  disk[446 + 12] = 100;
  disk[510] = '\x55';
  disk[511] = '\xaa';
  write_text(disk, 32 * kMiB);
  expect_refused(EEXIST, {"a dos partition table"});
}

struct FormatDevice : Format {
  std::optional<testing::LoopDevice> device;
  void make_device(unsigned sector) {
    write_text("", 32 * kMiB);
    device.emplace(file.path(), sector);
  }
  FormatRequest device_request() {
    FormatRequest r = request();
    r.path = device->path();
    r.medium = {};
    r.stg = "";
    r.size_bytes = {};
    return r;
  }
  Error refused(const FormatRequest& r) {
    const auto made = format_storage(r);
    EXPECT_FALSE(made);
    return made ? Error{} : made.error();
  }
};

TEST_F(FormatDevice, TakesAllOfItWithBlocksThatItWritesAtOnce) {
  for (const unsigned sector : {512u, 4096u}) {
    make_device(sector);
    STP_NEED_DEVICE(*device);
    const auto made = format_storage(device_request());
    ASSERT_TRUE(made) << made.error().text;
    EXPECT_EQ(made->stg, "stg");
    EXPECT_EQ(made->medium, MediumKind::kDirect);
    EXPECT_EQ(made->geometry.total_bytes(), 32 * kMiB);
    auto storage = Storage::open(device->path(), Storage::Access::kReadOnly);
    ASSERT_TRUE(storage) << storage.error().text;
    EXPECT_EQ((*storage)->superblock(), *made);
    const auto again = refused(device_request());
    EXPECT_EQ(again.code, EEXIST) << again.text;
  }
}

TEST_F(FormatDevice, RefusesInWords) {
  make_device(512);
  STP_NEED_DEVICE(*device);
  FormatRequest r = device_request();
  r.size_bytes = 64 * kMiB;
  EXPECT_NE(refused(r).text.find("less than --size 64"), std::string::npos);
  r = device_request();
  r.medium = MediumKind::kMapped;
  EXPECT_NE(refused(r).text.find("a block device can not be used in mapped mode"), std::string::npos);
  Result<Superblock> made = fail(0, "");
  STP_WITH_FAILING([&] { made = format_storage(device_request()); },
                   testing::FailingCall{.number = SYS_ioctl, .error = EIO, .argument = 1, .mask = static_cast<std::uint32_t>(BLKGETSIZE64)});
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().text.find("size"), std::string::npos) << made.error().text;
}

TEST_F(FormatDevice, RefusesOneThatSomebodyHolds) {
  make_device(512);
  STP_NEED_DEVICE(*device);
  const int holder = ::open(device->path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  ASSERT_GE(holder, 0);
  FormatRequest r = device_request();
  const Error error = refused(r);
  EXPECT_EQ(error.code, EBUSY);
  EXPECT_NE(error.text.find("is mounted, or another program holds it"), std::string::npos);
  r.force = true;
  EXPECT_TRUE(format_storage(r));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("formatting it all the same"), std::string::npos);
  ::close(holder);
}

struct Repair : Format {
  std::uint64_t copy_at = 0;
  Superblock made;
  Repair() {
    made = format();
    copy_at = made.geometry.superblock_copy() * made.geometry.block_size;
  }
  Result<RepairOutcome> repair(std::optional<RepairSource> from = {}) { return repair_superblock({.path = file.path(), .from = from}); }
};

TEST_F(Repair, HasNothingToDoWhenBothAreGood) {
  const auto outcome = repair();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kNothing);
}

TEST_F(Repair, RestoresEachFromTheOther) {
  flip(130);
  auto outcome = repair();
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kFirstRestored);
  flip(copy_at + 130);
  outcome = repair();
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kCopyRestored);
  EXPECT_EQ(repair()->done, RepairOutcome::Done::kNothing);
  EXPECT_EQ(Storage::open(file.path(), Storage::Access::kReadOnly).value()->superblock(), made);
}

TEST_F(Repair, FindsTheCopyInAStorageSmallerThanItsDevice) {
  flip(130);
  file.resize(32 * kMiB + 12345);
  const auto outcome = repair();
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kFirstRestored);
}

TEST_F(Repair, RefusesWhenBothAreBad) {
  flip(130);
  flip(copy_at + 130);
  const auto outcome = repair();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, EUCLEAN);
}

TEST_F(Repair, AsksWhichOneIsRightWhenBothAreGoodAndDiffer) {
  Superblock other = made;
  other.uuid = golden::other_uuid();
  const AlignedBuffer block(made.geometry.block_size);
  encode_superblock(block.span(), other, made.geometry.superblock_copy());
  ASSERT_TRUE(RawFile::open(file.path(), {.write = true}).value().write(copy_at, block.span()));
  auto outcome = repair();
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().text.find(to_string(other.uuid)), std::string::npos);
  outcome = repair(RepairSource::kCopy);
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kFirstRestored);
  EXPECT_EQ(outcome->superblock.uuid, other.uuid);
  EXPECT_EQ(repair()->done, RepairOutcome::Done::kNothing);
}

TEST_F(Repair, DoesNotTakeTheOneThatIsBad) {
  flip(130);
  EXPECT_FALSE(repair(RepairSource::kFirst));
}

TEST_F(Repair, DoesNotTakeACopyThatLiesInAnotherPlace) {
  auto raw = RawFile::open(file.path(), {.write = true}).value();
  const AlignedBuffer block(made.geometry.block_size);
  ASSERT_TRUE(raw.read(0, block.span()));
  ASSERT_TRUE(raw.write(copy_at, block.span()));
  EXPECT_EQ(read_superblock_at(raw, copy_at).fault, to_string(BlockFault::kPlace));
  const auto outcome = repair();
  ASSERT_TRUE(outcome) << outcome.error().text;
  EXPECT_EQ(outcome->done, RepairOutcome::Done::kCopyRestored);
}

TEST_F(Repair, SaysWhatTheSystemRefused) {
  flip(130);
  for (const auto& [number, words] : std::initializer_list<std::pair<long, const char*>>{
           {SYS_pread64, "can not read"}, {SYS_pwrite64, "can not write"}, {SYS_fsync, "can not write everything"}, {SYS_openat, "can not open"}}) {
    Result<RepairOutcome> outcome = fail(0, "");
    STP_WITH_FAILING([&] { outcome = repair(); }, testing::FailingCall{.number = number, .error = EIO});
    ASSERT_FALSE(outcome) << words;
    EXPECT_NE(outcome.error().text.find(words), std::string::npos) << outcome.error().text;
  }
}

TEST_F(Repair, RefusesAStorageThatWasCut) {
  file.resize(16 * kMiB);
  const auto outcome = repair();
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().text.find("size"), std::string::npos);
}

}  // namespace
}  // namespace stp
