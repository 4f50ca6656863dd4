#include "stp/formatter.h"

#include <sys/stat.h>

#include <cerrno>

#include "stp/checker.h"
#include "stp/raw_file.h"
#include "stp/repair.h"
#include "stp/superblock_finder.h"
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

TEST_F(Repair, RefusesAStorageThatWasCut) {
  file.resize(16 * kMiB);
  const auto outcome = repair();
  ASSERT_FALSE(outcome);
  EXPECT_NE(outcome.error().text.find("size"), std::string::npos);
}

}  // namespace
}  // namespace stp
