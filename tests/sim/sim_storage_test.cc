// The simulated storage does the harm that it promises, and no other.
#include "tests/sim/sim_storage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_locks.h"
#include "tests/sim/sim_medium.h"

namespace stp::sim {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 64;

class Disk : public StorageWatcher {
 public:
  explicit Disk(std::uint64_t seed = 1, StorageFaults faults = {}) : world(seed, false), storage(world, memory, kBlock, kBlocks) {
    storage.set_faults(faults);
    storage.set_watcher(this);
  }
  void write_submitted(ProcessId, std::uint64_t, ConstBytes) override { ++submitted; }
  void process_quiet(ProcessId process) override { quiet.insert(process); }
  void block_harmed(std::uint64_t) override { ++harmed; }

  static AlignedBuffer filled(std::uint8_t with, std::size_t blocks = 1) {
    AlignedBuffer b(kBlock * blocks);
    std::memset(b.data(), with, b.size());
    return b;
  }
  static IoRequest write(std::uint64_t block, const AlignedBuffer& from) {
    return {.op = IoRequest::Op::kWrite, .block = block, .blocks = static_cast<std::uint32_t>(from.size() / kBlock), .buffer = from.data(), .token = block};
  }
  static IoRequest read(std::uint64_t block, const AlignedBuffer& into) {
    return {.op = IoRequest::Op::kRead, .block = block, .blocks = static_cast<std::uint32_t>(into.size() / kBlock), .buffer = into.data(), .token = block};
  }
  std::uint8_t on_disk(std::uint64_t block, std::size_t offset = 0) { return std::to_integer<std::uint8_t>(storage.look(block)[offset]); }

  StorageMemory memory;
  SimWorld world;
  SimStorage storage;
  int submitted = 0;
  int harmed = 0;
  std::set<ProcessId> quiet;
};

int reap_all(SimMedium& medium, int* errors = nullptr) {
  IoCompletion c;
  int n = 0;
  while (medium.reap({&c, 1}) == 1) {
    ++n;
    if (errors != nullptr && c.error != 0) ++*errors;
  }
  return n;
}

}  // namespace

TEST(SimStorage, ReadsWhatAWriteLeft) {
  Disk d;
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer out = Disk::filled(0x5a, 3), in = Disk::filled(0, 3);
  m.submit(Disk::write(4, out));
  m.flush();
  d.world.run_until(kSecond);
  EXPECT_EQ(reap_all(m), 1);
  m.submit(Disk::read(4, in));
  m.flush();
  d.world.run_until(2 * kSecond);
  EXPECT_EQ(reap_all(m), 1);
  EXPECT_EQ(std::memcmp(out.data(), in.data(), out.size()), 0);
  EXPECT_EQ(m.outstanding(), 0u);
  EXPECT_FALSE(d.world.failed()) << d.world.failure();
}

TEST(SimStorage, NothingStartsBeforeTheFlush) {
  Disk d;
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer out = Disk::filled(1);
  m.submit(Disk::write(4, out));
  d.world.run_until(kSecond);
  EXPECT_EQ(reap_all(m), 0);
  EXPECT_EQ(d.on_disk(4), 0);
}

TEST(SimStorage, NamesASecondWriteInFlightToOneBlock) {
  Disk d;
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer a = Disk::filled(1, 2), b = Disk::filled(2);
  m.submit(Disk::write(4, a));
  m.submit(Disk::write(5, b));
  m.flush();
  EXPECT_NE(d.world.failure().find("one write in flight a block"), std::string::npos) << d.world.failure();
}

TEST(SimStorage, NamesMemoryThatChangesUnderAWrite) {
  Disk d;
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer a = Disk::filled(1);
  m.submit(Disk::write(4, a));
  m.flush();
  a.data()[77] = std::byte{9};
  d.world.run_until(kSecond);
  EXPECT_NE(d.world.failure().find("buffer changed in flight"), std::string::npos) << d.world.failure();
}

TEST(SimStorage, AWriteOfADeadMachineIsLostOrLandsAtOnceOrLandsLate) {
  int lost = 0, soon = 0, late = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Disk d(seed, {.late_max = 30 * kSecond});
    auto m = std::make_unique<SimMedium>(d.world, d.storage, 1, 0, [] {});
    {
      const AlignedBuffer a = Disk::filled(1);
      m->submit(Disk::write(4, a));
      m->flush();
      m->die(SimStorage::Death::kMachine);
    }
    m.reset();
    d.world.run_until(10 * kMillisecond);
    const bool early = d.on_disk(4) == 1;
    d.world.run_until(60 * kSecond);
    const bool there = d.on_disk(4) == 1;
    lost += there ? 0 : 1;
    soon += early ? 1 : 0;
    late += there && !early ? 1 : 0;
    EXPECT_FALSE(d.storage.has_writes_under_way(1));
  }
  EXPECT_GT(lost, 5);
  EXPECT_GT(soon, 5);
  EXPECT_GT(late, 2);
}

TEST(SimStorage, ADeadProcessLosesNothingAndIsQuietOnlyWhenAllHasLanded) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Disk d(seed, {.late_chance = 0.8, .late_max = 3 * kSecond});
    SimMedium m(d.world, d.storage, 7, 0, [] {});
    const AlignedBuffer a = Disk::filled(1, 8);
    m.submit(Disk::write(4, a));
    m.flush();
    m.die(SimStorage::Death::kProcess);
    for (int ms = 0; ms < 4000; ms += 10) {
      d.world.run_until(ms * kMillisecond);
      bool all = true;
      for (std::uint64_t b = 4; b < 12; ++b) all = all && d.on_disk(b) == 1;
      EXPECT_EQ(d.quiet.contains(7), all);
    }
    EXPECT_TRUE(d.quiet.contains(7));
  }
}

TEST(SimStorage, ACompletedWriteMayBeUndoneByAnOlderOne) {
  Disk d(3, {.requests = {.undo = {.shortest = kMillisecond, .longest = 5 * kSecond, .chance = 1}}});
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer old = Disk::filled(1), young = Disk::filled(2);
  m.submit(Disk::write(4, old));
  m.flush();
  d.world.run_until(6 * kMillisecond);
  ASSERT_EQ(reap_all(m), 1);
  d.storage.set_faults({});
  m.submit(Disk::write(4, young));
  m.flush();
  bool was_young = false, undone = false;
  for (int ms = 7; ms < 6000; ++ms) {
    d.world.run_until(ms * kMillisecond);
    was_young = was_young || d.on_disk(4) == 2;
    undone = undone || (was_young && d.on_disk(4) == 1);
  }
  EXPECT_TRUE(was_young);
  EXPECT_TRUE(undone);
  EXPECT_GT(d.harmed, 0);
}

TEST(SimStorage, SectorsOfABlockLandApartWhenToldSoAndTogetherOtherwise) {
  auto torn_seen = [](bool tears) {
    bool mixed = false;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      Disk d(seed, {.fastest = kMillisecond, .sector_tears = tears});
      SimMedium m(d.world, d.storage, 1, 0, [] {});
      const AlignedBuffer a = Disk::filled(1);
      m.submit(Disk::write(4, a));
      m.flush();
      for (int us = 0; us < 6000; us += 20) {
        d.world.run_until(us * kMicrosecond);
        int ones = 0;
        for (std::size_t s = 0; s < 8; ++s) ones += d.on_disk(4, s * 512) == 1 ? 1 : 0;
        mixed = mixed || (ones != 0 && ones != 8);
      }
    }
    return mixed;
  };
  EXPECT_TRUE(torn_seen(true));
  EXPECT_FALSE(torn_seen(false));
}

TEST(SimStorage, AStallHoldsEverythingOfOneMachineBack) {
  Disk d;
  SimMedium stalled(d.world, d.storage, 1, 0, [] {}), other(d.world, d.storage, 2, 1, [] {});
  const AlignedBuffer a = Disk::filled(1), b = Disk::filled(2);
  d.storage.stall(0, 3 * kSecond);
  stalled.submit(Disk::write(4, a));
  stalled.flush();
  other.submit(Disk::write(5, b));
  other.flush();
  d.world.run_until(2900 * kMillisecond);
  EXPECT_EQ(d.on_disk(4), 0);
  EXPECT_EQ(d.on_disk(5), 2);
  EXPECT_EQ(reap_all(stalled), 0);
  EXPECT_EQ(reap_all(other), 1);
  d.world.run_until(4 * kSecond);
  EXPECT_EQ(d.on_disk(4), 1);
  EXPECT_EQ(reap_all(stalled), 1);
}

TEST(SimStorage, ErrorsAreReportedAndAFailedWriteMayStillLandLater) {
  int landed = 0, errors = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Disk d(seed, {.requests = {.eio_write = 1}, .late_max = 9 * kSecond});
    SimMedium m(d.world, d.storage, 1, 0, [] {});
    const AlignedBuffer a = Disk::filled(1);
    m.submit(Disk::write(4, a));
    m.flush();
    d.world.run_until(10 * kMillisecond);
    EXPECT_EQ(reap_all(m, &errors), 1);
    const bool before = d.on_disk(4) == 1;
    d.world.run_until(20 * kSecond);
    landed += !before && d.on_disk(4) == 1 ? 1 : 0;
  }
  EXPECT_EQ(errors, 60);
  EXPECT_GT(landed, 2);
}

TEST(SimStorage, ATornWriteCompletesWellAndSomeOfItsSectorsNeverLand) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Disk d(seed, {.requests = {.torn = 1}});
    SimMedium m(d.world, d.storage, 1, 0, [] {});
    const AlignedBuffer a = Disk::filled(1);
    m.submit(Disk::write(4, a));
    m.flush();
    d.world.run_until(60 * kSecond);
    int errors = 0, landed = 0;
    EXPECT_EQ(reap_all(m, &errors), 1);
    EXPECT_EQ(errors, 0);
    for (std::size_t s = 0; s < 8; ++s) landed += d.on_disk(4, s * 512) == 1 ? 1 : 0;
    EXPECT_GT(landed, 0);
    EXPECT_LT(landed, 8);
    EXPECT_GT(d.harmed, 0);
  }
}

TEST(SimStorage, AMisdirectedWriteLeavesTheRightPlaceOld) {
  Disk d(5, {.requests = {.misdirected = 1}});
  SimMedium m(d.world, d.storage, 1, 0, [] {});
  const AlignedBuffer a = Disk::filled(1);
  m.submit(Disk::write(4, a));
  m.flush();
  d.world.run_until(kSecond);
  EXPECT_EQ(reap_all(m), 1);
  EXPECT_EQ(d.on_disk(4), 0);
  int elsewhere = 0;
  for (std::uint64_t b = 0; b < kBlocks; ++b) elsewhere += d.on_disk(b) == 1 ? 1 : 0;
  EXPECT_EQ(elsewhere, 1);
}

TEST(SimStorage, AMachineWithAnotherDiskNeitherSeesNorIsSeen) {
  Disk d;
  SimMedium lost(d.world, d.storage, 1, 0, [] {}), other(d.world, d.storage, 2, 1, [] {});
  const AlignedBuffer a = Disk::filled(1), b = Disk::filled(2), in = Disk::filled(0, 2);
  d.storage.see_other_view(0, SimStorage::OtherView::kOtherDisk);
  lost.submit(Disk::write(4, a));
  lost.flush();
  other.submit(Disk::write(5, b));
  other.flush();
  d.world.run_until(kSecond);
  EXPECT_EQ(d.on_disk(4), 0);
  lost.submit(Disk::read(4, in));
  lost.flush();
  d.world.run_until(2 * kSecond);
  EXPECT_EQ(in.data()[0], std::byte{1});
  EXPECT_EQ(in.data()[kBlock], std::byte{0});
  d.storage.see_disk_again(0);
  lost.submit(Disk::read(4, in));
  lost.flush();
  d.world.run_until(3 * kSecond);
  EXPECT_EQ(in.data()[0], std::byte{0});
  EXPECT_EQ(in.data()[kBlock], std::byte{2});
}

TEST(SimStorage, OneSeedGivesOneTrace) {
  auto run = [](std::uint64_t seed) {
    Disk d(seed, {.requests = {.delay = {.shortest = kMillisecond, .longest = kSecond, .chance = 0.1},
                              .undo = {.shortest = kMillisecond, .longest = kSecond, .chance = 0.2},
                              .flip = 2e-5},
                 .sector_tears = true});
    SimMedium m(d.world, d.storage, 1, 0, [] {});
    std::vector<AlignedBuffer> buffers;
    for (std::uint8_t i = 0; i < 20; ++i) {
      buffers.push_back(Disk::filled(i));
      m.submit(Disk::write(i, buffers.back()));
    }
    m.flush();
    d.world.run_until(10 * kSecond);
    return d.world.trace_hash();
  };
  EXPECT_EQ(run(11), run(11));
  EXPECT_NE(run(11), run(12));
}

TEST(SimStorage, MemoryIsBlankForTheNextSeed) {
  StorageMemory memory;
  SimWorld world(1, false);
  {
    SimStorage s(world, memory, kBlock, kBlocks);
    const AlignedBuffer a = Disk::filled(1);
    s.put(9, a.span());
    EXPECT_EQ(s.look(9)[0], std::byte{1});
  }
  SimStorage s(world, memory, kBlock, kBlocks);
  EXPECT_EQ(s.look(9)[0], std::byte{0});
}

TEST(SimClock, RunsAtItsOwnRateAndStandsStillWhileFrozen) {
  SimClock clock(1000 * kSecond, 1'100'000);
  EXPECT_EQ(clock.local(10 * kSecond), 1011 * kSecond);
  clock.stop(10 * kSecond);
  EXPECT_EQ(clock.local(50 * kSecond), 1011 * kSecond);
  EXPECT_EQ(clock.when(1012 * kSecond), kNever);
  clock.go_on(50 * kSecond);
  const Nanos due = clock.when(1012 * kSecond);
  EXPECT_GE(clock.local(due), 1012 * kSecond);
  EXPECT_LT(clock.local(due - 10), 1012 * kSecond);
}

TEST(SimLocks, OneHolderAKernelUntilItIsReleased) {
  KernelLocks kernel, elsewhere;
  SimLocks a(kernel, 1), b(kernel, 2), c(elsewhere, 3);
  EXPECT_TRUE(a.acquire(0));
  EXPECT_FALSE(b.acquire(0));
  EXPECT_TRUE(c.acquire(0));
  EXPECT_EQ(b.probe(0), SlotLocks::State::kHeld);
  EXPECT_EQ(a.probe(0), SlotLocks::State::kFree);
  kernel.release_all(1);
  EXPECT_TRUE(b.acquire(0));
}

}  // namespace stp::sim
