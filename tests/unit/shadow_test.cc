#include "hostlib/shadow.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "hostlib/host_list.h"
#include "hostlib/news_board.h"

namespace stp::host {
namespace {

constexpr std::uint32_t kRing = 4096;

struct TwoEnds {
  std::shared_ptr<ShadowMemory> memory = *ShadowMemory::create(kRing);
  std::shared_ptr<ShadowMemory> again = *ShadowMemory::map(memory->fd(), memory->header_at());  // as another process has it
  ShadowEnd a{memory, 0};
  ShadowEnd b{again, 1};
};

std::vector<std::byte> bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(size);
  for (std::byte& each : out) each = static_cast<std::byte>(random());
  return out;
}

TEST(Shadow, carries_bytes_both_ways_across_the_end_of_the_ring) {
  TwoEnds t;
  for (unsigned round = 0; round < 50; ++round) {
    const auto out = bytes(1000 + 37 * round % 3000, round);
    ASSERT_EQ(t.a.write(out), out.size());
    ASSERT_EQ(t.b.write(out), out.size());
    std::vector<std::byte> in(out.size());
    ASSERT_EQ(t.b.read(in, true), in.size());  // a peek
    EXPECT_EQ(in, out);
    std::ranges::fill(in, std::byte{0});
    ASSERT_EQ(t.b.read(in, false), in.size());
    EXPECT_EQ(in, out);
    ASSERT_EQ(t.a.read(in, false), in.size());
    EXPECT_EQ(in, out);
    EXPECT_EQ(t.b.readable(), 0u);
  }
}

TEST(Shadow, takes_no_more_than_the_ring_holds) {
  TwoEnds t;
  const auto out = bytes(kRing + 1, 1);
  EXPECT_EQ(t.a.write(out), kRing);
  EXPECT_EQ(t.a.write(out), 0u);
  EXPECT_EQ(t.a.room(), 0u);
  EXPECT_EQ(t.b.readable(), kRing);
  t.b.take(10);
  EXPECT_EQ(t.a.room(), 10u);
  EXPECT_EQ(t.a.unread(), kRing - 10u);
}

TEST(Shadow, gives_pieces_that_lie_together) {
  TwoEnds t;
  (void)t.a.write(bytes(kRing - 100, 1));
  t.b.take(kRing - 100);
  EXPECT_EQ(t.a.next_room().size(), 100u);
  const auto out = bytes(300, 2);
  ASSERT_EQ(t.a.write(out), 300u);
  const ConstBytes first = t.b.next_readable();
  ASSERT_EQ(first.size(), 100u);
  EXPECT_TRUE(std::ranges::equal(first, ConstBytes(out).first(100)));
  t.b.take(100);
  EXPECT_TRUE(std::ranges::equal(t.b.next_readable(), ConstBytes(out).subspan(100)));
}

TEST(Shadow, shows_what_lies_further_on) {
  TwoEnds t;
  (void)t.a.write(bytes(kRing - 100, 1));
  t.b.take(kRing - 100);
  const auto out = bytes(300, 2);
  ASSERT_EQ(t.a.write(out), 300u);
  EXPECT_EQ(t.b.next_readable(60).size(), 40u);  // to the end of the ring
  EXPECT_TRUE(std::ranges::equal(t.b.next_readable(150), ConstBytes(out).subspan(150)));
  EXPECT_TRUE(t.b.next_readable(300).empty());
  EXPECT_TRUE(t.b.next_readable(5000).empty());
  EXPECT_EQ(t.b.readable(), 300u);
}

TEST(Shadow, large_rings_lie_in_huge_pages_and_show_places_for_devices) {
  constexpr std::uint32_t kLarge = 4u << 20;
  TwoEnds t{.memory = *ShadowMemory::create(kLarge)};
  const auto out = bytes(1'000'000, 3);
  std::vector<std::byte> in(out.size());
  for (int lap = 0; lap < 10; ++lap) {
    ASSERT_EQ(t.a.write(out), out.size());
    ASSERT_EQ(t.b.read(in, false), in.size());
    ASSERT_TRUE(in == out) << "lap " << lap;
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.again->ring(1)) % ShadowMemory::kHugePage, 0u);
  // The agent's side is a: it asks the kernel for nothing.
  EXPECT_EQ(t.a.mine().huge.load(), 0u);
  EXPECT_FALSE(t.b.readable_in_huge_pages());
  if (t.b.mine().huge.load() == 0) GTEST_SKIP() << "this kernel makes no huge pages of shared memory on demand";
  EXPECT_EQ(t.b.mine().huge.load(), ShadowSide::kOfWhatIReceive);
  std::byte* const ring = t.memory->ring(0);
  ASSERT_EQ(t.a.write(bytes(kLarge - 10 * out.size() % kLarge, 4)), kLarge - 10 * out.size() % kLarge);
  t.b.take(t.b.readable());  // to the beginning of the ring
  EXPECT_EQ(t.a.place(0, 8192), ring);
  EXPECT_EQ(t.a.place(12288, 8192), ring + 12288);
  EXPECT_EQ(t.a.place(100, 4096), nullptr);            // no device reads to there
  EXPECT_EQ(t.a.place(kLarge - 4096, 8192), nullptr);  // not free
  EXPECT_EQ(t.a.place(UINT64_MAX - 4095, 8192), nullptr);
  ASSERT_EQ(t.a.write(out), out.size());
  EXPECT_EQ(t.a.place(0, 4096), nullptr);
  const std::uint64_t ahead = 4096 - out.size() % 4096;
  EXPECT_EQ(t.a.place(ahead, 4096), ring + out.size() + ahead);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(t.b.write(out), out.size());
  EXPECT_TRUE(t.a.readable_in_huge_pages());
  t.memory->side(1).head.store(12345);  // a hostile program: nowhere outside of the ring
  for (std::uint64_t each = 0; each < 3 * std::uint64_t{kLarge}; each += 4096) {
    const std::byte* const place = t.a.place(each, 4096);
    ASSERT_TRUE(place == nullptr || (place >= ring && place <= ring + kLarge - 4096));
  }
}

TEST(Shadow, small_rings_are_no_places_for_devices) {
  TwoEnds t;
  t.b.mine().huge.store(ShadowSide::kOfWhatISend | ShadowSide::kOfWhatIReceive);  // whatever a program says
  EXPECT_FALSE(t.a.readable_in_huge_pages());
  EXPECT_EQ(t.a.place(0, kRing), nullptr);
}

TEST(Shadow, the_end_comes_after_the_last_byte) {
  TwoEnds t;
  (void)t.a.write(bytes(5, 1));
  t.a.end(ShadowSide::kEnd);
  EXPECT_FALSE(t.b.at_end());
  t.b.take(5);
  EXPECT_TRUE(t.b.at_end());
  EXPECT_FALSE(t.b.at_reset());
}

TEST(Shadow, a_reset_comes_after_what_was_sent_before) {
  TwoEnds t;
  (void)t.a.write(bytes(5, 1));
  t.a.end(ShadowSide::kReset);
  EXPECT_FALSE(t.b.at_reset());
  t.b.take(5);
  EXPECT_TRUE(t.b.at_reset());
}

TEST(Shadow, counters_that_make_no_sense_give_nothing_and_are_told) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    TwoEnds t;
    (void)t.b.write(bytes(round % kRing, 1));
    ShadowSide& hostile = t.memory->side(0);
    hostile.tail.store(round % 2 == 0 ? random() : kRing + 1 + random() % 100);
    hostile.head.store(round % 3 == 0 ? random() : random() % kRing);
    hostile.ended.store(static_cast<std::uint32_t>(random()));
    hostile.waiting.store(static_cast<std::uint32_t>(random()));
    t.memory->side(1).head.store(random());  // even the victim's own
    t.memory->side(1).tail.store(random());
    // Whatever it says: no more than a ring, nothing outside of it, and no crash.
    std::vector<std::byte> in(2 * kRing);
    EXPECT_LE(t.b.readable(), kRing);
    EXPECT_LE(t.b.room(), kRing);
    EXPECT_LE(t.b.next_readable().size(), kRing);
    EXPECT_LE(t.b.next_room().size(), kRing);
    EXPECT_LE(t.b.read(in, false), kRing);
    EXPECT_LE(t.b.write(in), kRing);
    (void)t.b.wake_other();
  }
  TwoEnds t;
  t.memory->side(0).tail.store(kRing + 1);
  EXPECT_TRUE(t.b.broken());
  EXPECT_EQ(t.b.readable(), 0u);
}

TEST(Shadow, memory_that_is_none_of_ours_is_refused) {
  const int plain = ::memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(plain, 4096 + 2 * kRing), 0);
  EXPECT_EQ(ShadowMemory::map(plain, 0).error(), EPROTO);  // not sealed: it might shrink under us
  ASSERT_EQ(::fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  EXPECT_EQ(ShadowMemory::map(plain, 0).error(), EPROTO);  // no magic
  ::close(plain);
  const auto memory = *ShadowMemory::create(kRing);
  auto* page = static_cast<std::byte*>(::mmap(nullptr, 4096 + sizeof(ShadowHeader), PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0));
  auto* header = reinterpret_cast<ShadowHeader*>(page + memory->header_at());
  header->ring_bytes = 2 * kRing;  // more than there is
  EXPECT_EQ(ShadowMemory::map(memory->fd(), memory->header_at()).error(), EPROTO);
  header->ring_bytes = kRing;
  header->version = 99;
  EXPECT_EQ(ShadowMemory::map(memory->fd(), memory->header_at()).error(), EPROTO);
  header->version = ShadowHeader::kVersion;
  EXPECT_TRUE(ShadowMemory::map(memory->fd(), memory->header_at()));
  for (const std::uint32_t elsewhere : {memory->header_at() + 64, 4096u, 4096 + 2 * kRing - 256, 4096 + 2 * kRing, ~0u, ~0u - 255})
    EXPECT_EQ(ShadowMemory::map(memory->fd(), elsewhere).error(), EPROTO) << elsewhere;
  std::memcpy(page + 4096, header, sizeof *header);  // what a program wrote into its ring is no header
  EXPECT_EQ(ShadowMemory::map(memory->fd(), 4096).error(), EPROTO);
  ::munmap(page, 4096 + sizeof *header);
  EXPECT_FALSE(ShadowMemory::map(-1, 0));
}

TEST(Shadow, headers_lie_in_different_places) {
  for (const std::uint32_t ring : {kRing, 1u << 20}) {
    std::set<std::uint32_t> lines, pages;
    for (int i = 0; i < 64; ++i) {
      const auto memory = *ShadowMemory::create(ring);
      lines.insert(memory->header_at() % 4096);
      pages.insert(memory->header_at() / 4096);
      EXPECT_LE(memory->header_at() % 4096 + sizeof(ShadowHeader), 4096u);
    }
    EXPECT_EQ(lines.size(), 14u);
    EXPECT_EQ(pages.size(), ring == kRing ? 1u : 64u);
  }
}

TEST(Shadow, gets_memory_ahead_of_what_is_written_once_some_was_used) {
  constexpr std::uint32_t kLarge = 1 << 20;
  const auto memory = *ShadowMemory::create(kLarge);
  ShadowEnd a{memory, 0}, b{memory, 1};
  std::vector<std::byte> message(1024), into(1024);
  std::uint64_t written = 0;
  const auto move_one = [&] {
    ASSERT_EQ(a.write(message), message.size());
    ASSERT_EQ(b.read(into, false), into.size());
    written += message.size();
  };
  move_one();
  if (memory->touched_bytes() >= ShadowMemory::kHugePage) GTEST_SKIP() << "this system has memory files in huge pages (shmem_enabled): all is there at once";
  while (written < 16 * 1024) move_one();
  EXPECT_EQ(memory->touched_bytes(), 4096 + written);  // the header's page, and what was used
  std::uint64_t most = 0;
  bool ahead = false;
  while (written < 3 * kLarge) {
    move_one();
    ahead |= memory->touched_bytes() > 4096 + written + 4096;
    if (written <= kLarge) most = std::max(most, memory->touched_bytes() - std::min(memory->touched_bytes(), 4096 + written));
  }
  EXPECT_LE(most, 128u * 1024);
  EXPECT_LE(memory->touched_bytes(), 4096u + kLarge);  // of this ring alone
  if (!ahead) GTEST_SKIP() << "this kernel gives no memory ahead (MADV_POPULATE_WRITE, Linux 5.14)";
}

TEST(Shadow, its_size_can_not_change) {
  const auto memory = *ShadowMemory::create(5000);
  EXPECT_EQ(memory->ring_bytes(), 8192u);  // the next power of two
  EXPECT_NE(::ftruncate(memory->fd(), 0), 0);
}

TEST(Shadow, wakes_only_who_waits_and_takes_the_wish_for_news_off) {
  TwoEnds t;
  EXPECT_FALSE(t.a.wake_other());
  t.b.want_news();
  EXPECT_TRUE(t.a.wake_other());
  EXPECT_FALSE(t.a.wake_other());
  t.b.mine().waiting.fetch_or(ShadowSide::kSleeps);
  const std::uint32_t before = t.b.mine().bell.load();
  EXPECT_FALSE(t.a.wake_other());
  EXPECT_EQ(t.b.mine().bell.load(), before + 1);
}

TEST(Shadow, two_threads_lose_nothing_and_sleep_through_nothing) {
  TwoEnds t;
  const auto out = bytes(3 << 20, 9);
  std::thread sender([&] {
    std::mt19937 random(1);
    std::size_t done = 0;
    while (done < out.size()) {
      ShadowSide& mine = t.a.mine();
      mine.waiting.fetch_or(ShadowSide::kSleeps);
      const std::uint32_t seen = mine.bell.load();
      const std::size_t n = t.a.write(ConstBytes(out).subspan(done, std::min<std::size_t>(1 + random() % 3000, out.size() - done)));
      done += n;
      if (n > 0)
        (void)t.a.wake_other();
      else
        (void)ShadowEnd::sleep(mine, seen, 10'000'000'000);
    }
    t.a.end(ShadowSide::kEnd);
    (void)t.a.wake_other();
  });
  std::vector<std::byte> in;
  std::vector<std::byte> part(2500);
  while (!t.b.at_end()) {
    ShadowSide& mine = t.b.mine();
    mine.waiting.fetch_or(ShadowSide::kSleeps);
    const std::uint32_t seen = mine.bell.load();
    const std::size_t n = t.b.read(part, false);
    in.insert(in.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(n));
    if (n > 0)
      (void)t.b.wake_other();
    else if (!t.b.at_end())
      (void)ShadowEnd::sleep(mine, seen, 10'000'000'000);
  }
  sender.join();
  EXPECT_EQ(in, out);
}

TEST(NewsBoard, tells_each_socket_once_and_rings_for_the_first_only) {
  auto board = std::make_unique<NewsBoard>();
  NewsDirection& news = board->to_agent;
  EXPECT_TRUE(news.set(5));
  EXPECT_FALSE(news.set(5));
  EXPECT_FALSE(news.set(6));
  EXPECT_TRUE(news.set(65535));
  std::vector<std::uint32_t> told;
  news.take([&](std::uint32_t index) { told.push_back(index); });
  EXPECT_EQ(told, (std::vector<std::uint32_t>{5, 6, 65535}));
  told.clear();
  news.take([&](std::uint32_t index) { told.push_back(index); });
  EXPECT_TRUE(told.empty());
  EXPECT_TRUE(news.set(6));
}

TEST(NewsBoard, loses_nothing_between_two_threads) {
  auto board = std::make_unique<NewsBoard>();
  constexpr std::uint32_t kSockets = 9000;
  std::vector<std::atomic<std::uint32_t>> said(kSockets), heard(kSockets);
  std::atomic<bool> done{false};
  std::thread teller([&] {
    std::mt19937 random(3);
    for (int i = 0; i < 200'000; ++i) {
      const auto index = static_cast<std::uint32_t>(random() % kSockets);
      said[index].fetch_add(1);
      (void)board->to_program.set(index);
    }
    done = true;
  });
  const auto look = [&] {
    board->to_program.take([&](std::uint32_t index) { heard[index].store(said[index].load()); });
  };
  while (!done) look();
  teller.join();
  look();
  for (std::uint32_t i = 0; i < kSockets; ++i) EXPECT_EQ(heard[i].load(), said[i].load()) << i;
}

TEST(HostList, says_who_is_there_and_ends_where_bytes_make_no_sense) {
  MembershipBoard::View view;
  view.self.name = "alpha";
  view.self.state = MemberState::kMember;
  view.peers.resize(3);
  view.peers[1].name = "beta~2";
  view.peers[1].state = PeerState::kDead;
  view.peers[1].silent_s = 12.5;
  view.peers[2].name = "gamma";
  view.peers[2].state = PeerState::kAlive;
  view.peers[2].one_way = true;
  std::vector<std::byte> encoded = encode_hosts(view, 4096);
  const auto again = decode_hosts(encoded);
  EXPECT_EQ(again.self.name, "alpha");
  EXPECT_EQ(again.self.state, MemberState::kMember);
  ASSERT_EQ(again.peers.size(), 2u);
  EXPECT_EQ(again.peers[0].name, "beta~2");
  EXPECT_EQ(again.peers[0].state, PeerState::kDead);
  EXPECT_EQ(again.peers[0].silent_s, 12.5);
  EXPECT_TRUE(again.peers[1].one_way);
  EXPECT_EQ(decode_hosts(encode_hosts(view, 500)).peers.size(), 1u);
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    auto damaged = encoded;
    for (int i = 0; i < 20; ++i) damaged[random() % damaged.size()] = static_cast<std::byte>(random());
    damaged.resize(random() % (damaged.size() + 1));
    EXPECT_LE(decode_hosts(damaged).peers.size(), 2u);
  }
}

}  // namespace
}  // namespace stp::host
