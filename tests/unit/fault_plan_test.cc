// STP_FAULTS: what it says, and what is drawn from it.
#include "stp/fault_plan.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <set>

#include "stp/request_fate.h"

namespace stp {
namespace {

constexpr std::uint32_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 1000;

FaultPlan plan(std::string_view text) {
  auto parsed = parse_faults(text);
  EXPECT_TRUE(parsed) << parsed.error().text;
  return parsed.value_or(FaultPlan{});
}

IoRequest request(IoRequest::Op op, std::uint32_t blocks = 1) { return {.op = op, .block = 500, .blocks = blocks, .buffer = nullptr, .token = 0}; }

RequestFate draw(Dice& random, const FaultPlan& p, const IoRequest& r) { return draw_fate(random, p, r, kBlock, kBlocks); }

}  // namespace

TEST(FaultPlan, ReadsEverySetting) {
  const FaultPlan p = plan("delay=5ms@1%,eio_read=0.1%,eio_write=0.002,torn=0.01%,lost=1e-5,misdirected=3e-6,undo=200us-1.5s@2%,flip=1e-6,seed=18446744073709551615");
  EXPECT_EQ(p.delay.shortest, 5 * kMillisecond);
  EXPECT_EQ(p.delay.longest, 5 * kMillisecond);
  EXPECT_DOUBLE_EQ(p.delay.chance, 0.01);
  EXPECT_DOUBLE_EQ(p.eio_read, 0.001);
  EXPECT_DOUBLE_EQ(p.eio_write, 0.002);
  EXPECT_DOUBLE_EQ(p.torn, 1e-4);
  EXPECT_DOUBLE_EQ(p.lost, 1e-5);
  EXPECT_DOUBLE_EQ(p.misdirected, 3e-6);
  EXPECT_EQ(p.undo.shortest, 200 * kMicrosecond);
  EXPECT_EQ(p.undo.longest, 1500 * kMillisecond);
  EXPECT_DOUBLE_EQ(p.undo.chance, 0.02);
  EXPECT_DOUBLE_EQ(p.flip, 1e-6);
  EXPECT_EQ(p.seed, 18446744073709551615ull);
  const FaultPlan both = plan("eio=100%");
  EXPECT_DOUBLE_EQ(both.eio_read, 1);
  EXPECT_DOUBLE_EQ(both.eio_write, 1);
  EXPECT_FALSE(both.seed);
}

TEST(FaultPlan, SaysInItsOwnWordsWhatItRead) {
  for (const char* text : {"delay=5ms@0.01,eio_read=0.001,eio_write=0.001,torn=0.0001,flip=1e-06,seed=7", "undo=200us-1500ms@0.5", "lost=1,seed=0", "delay=0us-2s@1"}) {
    EXPECT_EQ(to_string(plan(text)), text);
    EXPECT_EQ(to_string(plan(to_string(plan(text)))), text);
  }
  EXPECT_EQ(to_string(plan("eio=0")), "");
}

TEST(FaultPlan, RefusesWhatIsWrongAndSaysWhere) {
  const struct {
    const char* text;
    const char* what;
    const char* where;
  } bad[] = {
      {"eio", "NAME=VALUE", "character 1"},
      {"eio=1%,", "NAME=VALUE", "character 8"},
      {"eio=1%,,seed=1", "NAME=VALUE", "character 8"},
      {"eio=1%, torn=1%", "no such fault", "character 8"},
      {"seed=7,crash=1%", "no such fault", "character 8"},
      {"eio=", "chance", "character 5"},
      {"eio=-1%", "chance", "character 5"},
      {"eio=101%", "chance", "character 5"},
      {"eio=1.01", "chance", "character 5"},
      {"eio=nan", "chance", "character 5"},
      {"eio=inf", "chance", "character 5"},
      {"eio=1%%", "chance", "character 5"},
      {"eio=1% ", "chance", "character 5"},
      {"torn=1%,torn=1%", "twice", "character 9"},
      {"eio=1%,eio_read=1%", "eio_read and eio_write", "character 8"},
      {"eio_write=1%,eio=1%", "eio_read and eio_write", "character 14"},
      {"delay=5ms", "how often", "character 7"},
      {"delay=5@1%", "us, ms or s", "character 7"},
      {"delay=5m@1%", "us, ms or s", "character 7"},
      {"delay=9ms-5ms@1%", "the shorter first", "character 7"},
      {"delay=2h@1%", "us, ms or s", "character 7"},
      {"delay=3601s@1%", "an hour", "character 7"},
      {"delay=5ms@", "chance", "character 11"},
      {"undo=1s@2", "chance", "character 9"},
      {"seed=", "seed", "character 6"},
      {"seed=-1", "seed", "character 6"},
      {"seed=18446744073709551616", "seed", "character 6"},
      {"seed=0x7", "seed", "character 6"},
  };
  for (const auto& b : bad) {
    const auto parsed = parse_faults(b.text);
    ASSERT_FALSE(parsed) << b.text;
    EXPECT_EQ(parsed.error().code, EINVAL);
    EXPECT_NE(parsed.error().text.find(b.what), std::string::npos) << parsed.error().text;
    EXPECT_NE(parsed.error().text.find(std::string("(") + b.where + ")"), std::string::npos) << parsed.error().text;
    EXPECT_NE(parsed.error().text.find(b.text), std::string::npos) << parsed.error().text;
  }
}

TEST(RequestFate, NothingBefallsWhoAskedForNothing) {
  Dice random(1);
  for (int i = 0; i < 1000; ++i) {
    const IoRequest r = request(i % 2 == 0 ? IoRequest::Op::kRead : IoRequest::Op::kWrite, 64);
    EXPECT_TRUE(draw(random, FaultPlan{}, r).good(r));
  }
}

TEST(RequestFate, OneSeedDrawsTheSameFatesAndAnotherOthers) {
  const FaultPlan p = plan("delay=1ms-1s@50%,eio=20%,torn=20%,lost=10%,misdirected=20%,undo=1ms-1s@50%,flip=1e-4");
  const auto fates = [&p](std::uint64_t seed) {
    Dice random(seed);
    std::vector<std::tuple<Nanos, int, std::uint64_t, std::vector<bool>, std::vector<std::uint64_t>, Nanos>> out;
    for (int i = 0; i < 100; ++i) {
      const RequestFate f = draw(random, p, request(IoRequest::Op::kWrite, 4));
      out.emplace_back(f.delay, f.error, f.place, f.missing, f.flips, f.undo_after);
    }
    return out;
  };
  EXPECT_EQ(fates(7), fates(7));
  EXPECT_NE(fates(7), fates(8));
}

// Each within five standard deviations of what was asked for.
TEST(RequestFate, FaultsAreAsFrequentAsWasAskedFor) {
  const FaultPlan p = plan("delay=1ms-9ms@25%,eio=10%,torn=20%,lost=5%,misdirected=10%,undo=1s@15%,flip=1e-4");
  Dice random(3);
  constexpr int kDraws = 20000;
  int delayed = 0, failed = 0, in_part = 0, nothing = 0, misdirected = 0, undone = 0, after_errors = 0;
  std::size_t flips = 0;
  for (int i = 0; i < kDraws; ++i) {
    const RequestFate f = draw(random, p, request(IoRequest::Op::kWrite));
    delayed += f.delay > 0 ? 1 : 0;
    EXPECT_TRUE(f.delay == 0 || (f.delay >= kMillisecond && f.delay <= 9 * kMillisecond)) << f.delay;
    failed += f.error == EIO ? 1 : 0;
    misdirected += f.place != 500 ? 1 : 0;
    EXPECT_LE(f.place, 508u);
    EXPECT_GE(f.place, 492u);
    undone += f.undo_after == kSecond ? 1 : 0;
    flips += f.flips.size();
    for (const std::uint64_t bit : f.flips) EXPECT_LT(bit, kBlock * 8);
    if (f.error != 0) {
      after_errors += f.missing.empty() ? 0 : 1;
      continue;
    }
    nothing += f.nothing_lands() ? 1 : 0;
    in_part += !f.missing.empty() && !f.nothing_lands() ? 1 : 0;
    EXPECT_TRUE(f.missing.empty() || f.missing.size() == 8);
  }
  const auto near = [](double counted, double draws, double chance) {
    EXPECT_NEAR(counted, draws * chance, 5 * std::sqrt(draws * chance * (1 - chance))) << chance;
  };
  near(delayed, kDraws, 0.25);
  near(failed, kDraws, 0.1);
  near(misdirected, kDraws, 0.1);
  near(undone, kDraws, 0.15);
  near(static_cast<double>(flips), kDraws * 4096.0, 1e-4);
  near(nothing, kDraws - failed, 0.05);
  near(in_part, kDraws - failed, 0.95 * 0.2);
  near(after_errors, failed, 1 - (1.0 / 3) * 0.95 * 0.8);  // whole only when neither torn nor lost besides
}

TEST(RequestFate, ReadsOnlyFailTakeLongerOrComeBackWithFlippedBits) {
  const FaultPlan p = plan("eio_write=1,torn=1,lost=1,misdirected=1,undo=1s@1");
  Dice random(4);
  const IoRequest read = request(IoRequest::Op::kRead);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(draw(random, p, read).good(read));
  const RequestFate every_byte = draw(random, plan("flip=1"), read);
  EXPECT_EQ(every_byte.flips.size(), kBlock);
}

TEST(RequestFate, MisdirectedWritesStayInsideTheStorage) {
  const FaultPlan p = plan("misdirected=1");
  Dice random(5);
  std::set<std::uint64_t> places;
  for (int i = 0; i < 1000; ++i) {
    const RequestFate f = draw_fate(random, p, {.op = IoRequest::Op::kWrite, .block = i % 2 == 0 ? 1u : 5u, .blocks = 4, .buffer = nullptr, .token = 0}, kBlock, 10);
    EXPECT_LE(f.place + 4, 10u);
    places.insert(f.place);
  }
  EXPECT_GT(places.size(), 4u);
}

TEST(RequestFate, FlippedBitsComeBackWhenFlippedAgain) {
  std::vector<std::byte> bytes(kBlock);
  const std::vector<std::uint64_t> bits{0, 9, 77, kBlock * 8 - 1};
  flip_bits(bytes, bits);
  EXPECT_EQ(bytes[0], std::byte{1});
  EXPECT_EQ(bytes[1], std::byte{2});
  EXPECT_EQ(bytes[kBlock - 1], std::byte{128});
  flip_bits(bytes, bits);
  EXPECT_EQ(bytes, std::vector<std::byte>(kBlock));
}

}  // namespace stp
