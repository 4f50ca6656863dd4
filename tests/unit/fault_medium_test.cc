// The layer of faults over a medium: each does the harm that it promises, and no other.
#include "stp/fault_medium.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <thread>

#include "scratch_storage.h"
#include "stp/storage.h"
#include "stp/system.h"
#include "tests/unit/fake_medium.h"

namespace stp {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 64;

// A disk of memory in simulated time, each request of which takes 1 ms, under a layer with these faults.
struct Faulty {
  explicit Faulty(std::string_view faults, std::uint64_t seed = 1) : disk(kBlock, kBlocks) {
    auto plan = parse_faults(faults);
    EXPECT_TRUE(plan) << plan.error().text;
    auto fake = std::make_unique<FakeMedium>(disk);
    under = fake.get();
    medium = std::make_unique<FaultMedium>(std::move(fake), plan.value_or(FaultPlan{}), seed, [this] { return disk.now(); });
  }
  IoRequest write(const AlignedBuffer& from, std::uint64_t token = 5) const {
    return {.op = IoRequest::Op::kWrite, .block = 20, .blocks = static_cast<std::uint32_t>(from.size() / kBlock), .buffer = from.data(), .token = token};
  }
  IoRequest read(const AlignedBuffer& into, std::uint64_t token = 6) const {
    return {.op = IoRequest::Op::kRead, .block = 20, .blocks = static_cast<std::uint32_t>(into.size() / kBlock), .buffer = into.data(), .token = token};
  }
  // Steps by a tenth of a millisecond until a completion is there, or `until`.
  std::vector<IoCompletion> run(Nanos until) {
    std::vector<IoCompletion> all;
    while (disk.now() < until) {
      disk.advance(disk.now() + kMillisecond / 10);
      IoCompletion some[4];
      const std::size_t n = medium->reap(some);
      all.insert(all.end(), some, some + n);
      if (n > 0) break;
    }
    return all;
  }
  std::vector<IoCompletion> do_one(const IoRequest& request) {
    medium->submit(request);
    medium->flush();
    return run(disk.now() + kSecond);
  }
  int sectors(std::byte value, std::uint64_t block = 20) {
    int count = 0;
    for (std::size_t s = 0; s < 8; ++s) {
      const Bytes sector = disk.block(block).subspan(s * 512, 512);
      if (std::ranges::all_of(sector, [value](std::byte b) { return b == value; })) ++count;
    }
    return count;
  }

  FakeDisk disk;
  FakeMedium* under = nullptr;
  std::unique_ptr<FaultMedium> medium;
};

AlignedBuffer filled(std::uint8_t with, std::size_t blocks = 1) {
  AlignedBuffer b(kBlock * blocks);
  std::memset(b.data(), with, b.size());
  return b;
}

int flipped(ConstBytes bytes, std::byte from) {
  int bits = 0;
  for (const std::byte b : bytes) bits += std::popcount(std::to_integer<unsigned>(b ^ from));
  return bits;
}

}  // namespace

TEST(FaultMedium, PassesEverythingOnWhenThereIsNothingToDo) {
  Faulty f("seed=1");
  const AlignedBuffer out = filled(0x5a, 3), in = filled(0, 3);
  auto done = f.do_one(f.write(out, 77));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].token, 77u);
  EXPECT_EQ(done[0].error, 0);
  done = f.do_one(f.read(in, 78));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].token, 78u);
  EXPECT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0);
  EXPECT_EQ(f.under->reads + f.under->writes, 2u);
}

TEST(FaultMedium, RefusesRequestsThatMakeNoSense) {
  Faulty f("eio=1");
  const AlignedBuffer out = filled(1);
  IoRequest beyond = f.write(out);
  beyond.block = kBlocks;
  const auto done = f.do_one(beyond);
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].error, EINVAL);
  EXPECT_EQ(f.under->writes, 0u);
}

TEST(FaultMedium, AFailedReadLeavesRubbish) {
  Faulty f("eio_read=1");
  const AlignedBuffer in = filled(0);
  const auto done = f.do_one(f.read(in));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].error, EIO);
  EXPECT_NE(in.data()[0], std::byte{0});
}

TEST(FaultMedium, AFailedWriteHasLandedWholeInPartOrNotAtAll) {
  int whole = 0, part = 0, none = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Faulty f("eio_write=100%", seed);
    const AlignedBuffer out = filled(1);
    const auto done = f.do_one(f.write(out));
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].error, EIO);
    const int there = f.sectors(std::byte{1});
    EXPECT_EQ(there + f.sectors(std::byte{0}), 8);
    ++(there == 8 ? whole : there == 0 ? none : part);
  }
  EXPECT_GT(whole, 5);
  EXPECT_GT(part, 5);
  EXPECT_GT(none, 5);
}

TEST(FaultMedium, ATornWriteCompletesWellAndKeepsSomeOfTheOldSectors) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Faulty f("torn=1", seed);
    std::ranges::fill(f.disk.block(20), std::byte{7});
    const AlignedBuffer out = filled(1);
    const auto done = f.do_one(f.write(out));
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].error, 0);
    const int fresh = f.sectors(std::byte{1});
    EXPECT_GT(fresh, 0);
    EXPECT_LT(fresh, 8);
    EXPECT_EQ(fresh + f.sectors(std::byte{7}), 8);
  }
}

TEST(FaultMedium, ALostWriteCompletesWellAndLeavesEverythingOld) {
  Faulty f("lost=1");
  const AlignedBuffer out = filled(1);
  const auto done = f.do_one(f.write(out));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].error, 0);
  EXPECT_EQ(f.sectors(std::byte{0}), 8);
}

TEST(FaultMedium, AMisdirectedWriteLandsBesideItsPlace) {
  Faulty f("misdirected=1");
  const AlignedBuffer out = filled(1);
  ASSERT_EQ(f.do_one(f.write(out)).size(), 1u);
  int elsewhere = 0;
  for (std::uint64_t b = 12; b <= 28; ++b) elsewhere += b != 20 && f.sectors(std::byte{1}, b) == 8 ? 1 : 0;
  EXPECT_EQ(f.sectors(std::byte{0}), 8);
  EXPECT_EQ(elsewhere, 1);
}

TEST(FaultMedium, FlipsBitsOnTheWayThereForGoodAndOnTheWayBackOnce) {
  Faulty there("flip=1e-3");
  const AlignedBuffer out = filled(1, 8);
  ASSERT_EQ(there.do_one(there.write(out)).size(), 1u);
  int bits = 0;
  for (std::uint64_t b = 20; b < 28; ++b) bits += flipped(there.disk.block(b), std::byte{1});
  EXPECT_GT(bits, 10);
  EXPECT_LT(bits, 80);
  EXPECT_EQ(flipped(out.span(), std::byte{1}), 0);  // the program's memory is its own
  Faulty back("flip=1e-3");
  const AlignedBuffer in = filled(1, 8);
  ASSERT_EQ(back.do_one(back.read(in)).size(), 1u);
  EXPECT_GT(flipped(in.span(), std::byte{0}), 10);
  for (std::uint64_t b = 20; b < 28; ++b) EXPECT_EQ(flipped(back.disk.block(b), std::byte{0}), 0);
}

TEST(FaultMedium, ADelayedRequestCompletesNoSoonerAndItsBytesMoveSomewhenInBetween) {
  Nanos earliest = kSecond, latest = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Faulty f("delay=50ms@1", seed);
    const AlignedBuffer out = filled(1);
    f.medium->submit(f.write(out));
    f.medium->flush();
    Nanos landed = 0;
    while (f.disk.now() < 60 * kMillisecond && landed == 0) {
      EXPECT_TRUE(f.run(f.disk.now() + kMillisecond / 10).empty() || f.disk.now() >= 50 * kMillisecond);
      if (f.sectors(std::byte{1}) == 8) landed = f.disk.now();
    }
    earliest = std::min(earliest, landed);
    latest = std::max(latest, landed);
    if (landed < 50 * kMillisecond) {
      EXPECT_EQ(f.run(kSecond).size(), 1u);
      EXPECT_GE(f.disk.now(), 50 * kMillisecond);
    }
  }
  EXPECT_LT(earliest, 15 * kMillisecond);
  EXPECT_GT(latest, 35 * kMillisecond);
}

TEST(FaultMedium, AnUndoneWriteLandsOnceMoreOverWhatWasWrittenSince) {
  Faulty f("undo=20ms@1");
  const AlignedBuffer old = filled(1), young = filled(2);
  ASSERT_EQ(f.do_one(f.write(old)).size(), 1u);
  std::memset(old.data(), 9, old.size());  // the program uses its memory again
  ASSERT_EQ(f.do_one(f.write(young)).size(), 1u);
  EXPECT_EQ(f.sectors(std::byte{2}), 8);
  EXPECT_TRUE(f.run(f.disk.now() + 20 * kMillisecond).empty());
  EXPECT_EQ(f.sectors(std::byte{1}), 8);
  EXPECT_TRUE(f.run(f.disk.now() + 10 * kMillisecond).empty());
  EXPECT_EQ(f.sectors(std::byte{2}), 8);  // and so does the younger one
}

TEST(FaultMedium, EveryRequestCompletesOnceWhateverBefallsIt) {
  Faulty f("delay=1us-20ms@30%,eio=10%,torn=10%,lost=5%,misdirected=5%,undo=1ms-9ms@20%,flip=1e-5");
  const AlignedBuffer buffers = filled(1, 32);
  std::vector<int> completed(2000);
  std::uint64_t next = 0, under_way = 0;
  std::size_t over = 0;
  std::vector<std::uint64_t> free_places;
  std::map<std::uint64_t, std::uint64_t> place_of;
  for (std::uint64_t i = 0; i < 32; ++i) free_places.push_back(i);
  while (over < completed.size()) {
    while (next < completed.size() && !free_places.empty()) {
      const std::uint64_t place = free_places.back();
      free_places.pop_back();
      place_of[next] = place;
      f.medium->submit({.op = next % 3 == 0 ? IoRequest::Op::kRead : IoRequest::Op::kWrite, .block = place, .blocks = 1,
                        .buffer = buffers.data() + place * kBlock, .token = next, .prompt = next % 5 == 0});
      ++next;
      ++under_way;
    }
    f.medium->flush();
    for (const IoCompletion& c : f.run(f.disk.now() + 100 * kMillisecond)) {
      ++completed[c.token];
      free_places.push_back(place_of[c.token]);
      ++over;
      --under_way;
    }
    ASSERT_LT(f.disk.now(), 100 * kSecond);
  }
  f.run(f.disk.now() + 100 * kMillisecond);
  EXPECT_EQ(under_way, 0u);
  for (const int times : completed) EXPECT_EQ(times, 1);
}

// -- Over real media, with threads

namespace {

struct ForcedFaults {
  explicit ForcedFaults(const char* value) { ::setenv("STP_FAULTS", value, 1); }
  ~ForcedFaults() { ::unsetenv("STP_FAULTS"); }
};

std::unique_ptr<Medium> open_medium(const std::string& path, std::shared_ptr<Storage>& storage) {
  auto opened = Storage::open(path, Storage::Access::kReadWrite);
  EXPECT_TRUE(opened) << opened.error().text;
  if (!opened) return nullptr;
  storage = *opened;
  auto medium = storage->make_medium();
  EXPECT_TRUE(medium) << medium.error().text;
  return medium ? std::move(*medium) : nullptr;
}

}  // namespace

class FaultyStorage : public ::testing::TestWithParam<MediumKind> {};

TEST_P(FaultyStorage, AWaitEndsWhenSomethingIsDueThatTheMediumBelowDoesNotKnowOf) {
  testing::ScratchStorage scratch(GetParam());
  const ForcedFaults faults("delay=30ms@1,seed=4");
  std::shared_ptr<Storage> storage;
  const auto medium = open_medium(scratch.path(), storage);
  ASSERT_TRUE(medium);
  EXPECT_EQ(storage->faults(), "delay=30ms@1,seed=4");
  const AlignedBuffer out(4096);
  const Nanos began = boottime_now();
  // The one who waits is asleep already when another one submits.
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    medium->submit({.op = IoRequest::Op::kWrite, .block = 8, .blocks = 1, .buffer = out.data(), .token = 3});
    medium->flush();
  });
  medium->wait(began + 20 * kSecond, 0);
  other.join();
  IoCompletion done;
  while (medium->reap({&done, 1}) == 0) {
    ASSERT_LT(boottime_now() - began, 10 * kSecond);
    medium->wait(began + 20 * kSecond, 0);
  }
  EXPECT_EQ(done.token, 3u);
  EXPECT_GE(boottime_now() - began, 50 * kMillisecond);
}

TEST_P(FaultyStorage, TearsOnTheStorageItselfAndNotForWhoLooksAtItWithoutAMedium) {
  testing::ScratchStorage scratch(GetParam());
  const ForcedFaults faults("torn=100%,eio_read=100%");
  std::shared_ptr<Storage> storage;
  const auto medium = open_medium(scratch.path(), storage);
  ASSERT_TRUE(medium);
  EXPECT_NE(storage->faults().find("seed="), std::string::npos);
  AlignedBuffer out(4096);
  std::memset(out.data(), 1, out.size());
  medium->submit({.op = IoRequest::Op::kWrite, .block = 8, .blocks = 1, .buffer = out.data(), .token = 3});
  medium->flush();
  IoCompletion done;
  while (medium->reap({&done, 1}) == 0) medium->wait(boottime_now() + kSecond, 0);
  EXPECT_EQ(done.error, 0);
  std::vector<std::byte> in(4096);
  ASSERT_TRUE(storage->read(8, in));
  const auto fresh = std::ranges::count(in, std::byte{1});
  EXPECT_GT(fresh, 0);
  EXPECT_LT(fresh, 4096);
  EXPECT_EQ(fresh % 512, 0);
}

TEST_P(FaultyStorage, RefusesToMakeAMediumWithFaultsThatItDoesNotUnderstand) {
  testing::ScratchStorage scratch(GetParam());
  const ForcedFaults faults("eio=5%,tron=1%");
  auto storage = Storage::open(scratch.path(), Storage::Access::kReadWrite);
  ASSERT_TRUE(storage);
  const auto medium = (*storage)->make_medium();
  ASSERT_FALSE(medium);
  EXPECT_EQ(medium.error().code, EINVAL);
  EXPECT_NE(medium.error().text.find("STP_FAULTS"), std::string::npos);
  EXPECT_NE(medium.error().text.find("\"tron\" (character 8)"), std::string::npos) << medium.error().text;
}

INSTANTIATE_TEST_SUITE_P(Media, FaultyStorage, ::testing::Values(MediumKind::kDirect, MediumKind::kMapped),
                         [](const auto& kind) { return kind.param == MediumKind::kDirect ? "direct" : "mapped"; });

}  // namespace stp
