// A format that dies at any of its calls, with any of the writes since the last fsync on the disk: there is no storage then, or the
// old one whole, or the new one whole; and it can be formatted again. STP_CRASH_FULL=1: every call; else a sample of those in the middle.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "stp/checker.h"
#include "stp/formatter.h"
#include "stp/dice.h"
#include "tests/crash_at_call.h"
#include "tests/unit/memory_storage.h"
#include "tests/unit/scratch_storage.h"

namespace stp {
namespace {


constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint32_t kMostCalls = 400;

struct FormatCrash : ::testing::Test {
  testing::ScratchFile file;
  Dice random{7};
  const bool full = std::getenv("STP_CRASH_FULL") != nullptr;
  int none = 0, old = 0, fresh = 0;

  FormatRequest request(std::uint64_t size, bool force) {
    FormatRequest r;
    r.path = file.path();
    r.size_bytes = size;
    r.hosts = 2;
    r.sockets = 62;
    r.force = force;
    r.clock = clock.clock();
    if (auto facts = probe_storage(file.path()); facts && !facts->direct_io) r.medium = MediumKind::kMapped;
    return r;
  }
  Uuid format(std::uint64_t size) {
    auto made = format_storage(request(size, true));
    EXPECT_TRUE(made) << made.error().text;
    return made ? made->uuid : Uuid{};
  }
  // Nothing wrong but, perhaps, one of the two superblocks, which `stp repair` makes again.
  void expect_whole(Storage& storage, const std::string& where) {
    CheckRequest r;
    r.clock = clock.clock();
    r.report = [&](const Finding& f) { EXPECT_EQ(f.region, "superblock") << where << ": " << f.what; };
    const auto summary = check_storage(storage, r);
    ASSERT_TRUE(summary) << where << ": " << summary.error().text;
    EXPECT_LE(summary->faults + summary->warnings, 1u) << where;
    EXPECT_EQ(summary->stale, 0u) << where;
  }
  void examine(const Uuid& before, const std::string& where) {
    auto opened = Storage::open(file.path(), Storage::Access::kReadOnly);
    if (!opened) {
      ++none;
      EXPECT_TRUE(opened.error().code == EMEDIUMTYPE || opened.error().code == EUCLEAN) << where << ": " << opened.error().text;
      return;
    }
    ++((*opened)->superblock().uuid == before ? old : fresh);
    expect_whole(**opened, where);
  }
  // Dies at each call in each way; what was there before is `old_size` bytes of a storage, or nothing.
  void die_everywhere(std::uint64_t old_size, std::uint64_t new_size) {
    std::uint32_t died = 0;
    for (std::uint32_t k = 0; k < kMostCalls; ++k) {
      bool ended = false;
      for (const auto when : {CrashAtCall::When::kBefore, CrashAtCall::When::kDuring, CrashAtCall::When::kAfter}) {
        if (!full && k > 8 && (k + static_cast<std::uint32_t>(when)) % 4 != 0) continue;
        std::vector<CrashAtCall> ways{{.call = k, .when = when}};
        for (int i = 0; i < (full ? 8 : 2); ++i)
          ways.push_back({.call = k, .when = when, .machine_dies = true, .landing = i == 0 ? 0 : random.next()});
        for (const CrashAtCall& way : ways) {
          file.resize(0);
          const Uuid before = old_size == 0 ? Uuid{} : format(old_size);
          const CrashedChild child = run_and_crash(way, [&] { return format_storage(request(new_size, true)) ? 0 : 1; });
          if (!child.died) {
            EXPECT_EQ(child.status, 0);
            ended = true;  // there are no more calls
            continue;
          }
          ++died;
          const std::string where = fmt::format("call {}, {}, landing {:x}", k, static_cast<int>(when), way.machine_dies ? way.landing : 0);
          examine(before, where);
          if (HasFailure()) return;
        }
      }
      if (ended) break;
      if (k % 8 != 0) continue;
      const Uuid again = format(new_size);
      auto opened = Storage::open(file.path(), Storage::Access::kReadOnly);
      ASSERT_TRUE(opened) << opened.error().text;
      EXPECT_EQ((*opened)->superblock().uuid, again);
      expect_whole(**opened, "formatted again");
    }
    EXPECT_GT(died, 20u);
    EXPECT_GT(none, 10);
    EXPECT_GT(fresh, 0);
  }

 private:
  testing::ManualClock clock;
};

TEST_F(FormatCrash, OfAnEmptyFileLeavesNoStorageOrAWholeOne) {
  die_everywhere(0, 8 * kMiB);
  EXPECT_EQ(old, 0);
}

TEST_F(FormatCrash, OverAStorageLeavesTheOldOneOrNoneOrTheNewOne) {
  die_everywhere(8 * kMiB, 8 * kMiB);
  EXPECT_GT(old, 0);
}

TEST_F(FormatCrash, OverALargerStorageLeavesTheOldOneOrNoneOrTheNewOne) {
  die_everywhere(9 * kMiB, 8 * kMiB);
  EXPECT_GT(old, 0);
}

}  // namespace
}  // namespace stp
