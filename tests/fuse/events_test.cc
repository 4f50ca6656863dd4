// /events over a storage in memory.
#include "fuse/events.h"

#include <poll.h>

#include <algorithm>
#include <sstream>

#include "fuse/news.h"
#include "tests/fuse/asking.h"
#include "tests/fuse/hanging_source.h"
#include "tests/fuse/memory_source.h"

namespace stp::view {
namespace {

using namespace std::chrono_literals;
using test::Asking;
using test::MemorySource;
using test::Waking;
using News = std::vector<std::string>;

struct EventTest : ::testing::Test {
  std::shared_ptr<stp::testing::MemoryStorage> storage = std::make_shared<stp::testing::MemoryStorage>();
  stp::testing::ManualClock clock;
  MemorySource* source = nullptr;
  std::shared_ptr<View> view;
  const Geometry& g = storage->geometry();

  EventTest() {
    auto made = std::make_unique<MemorySource>(storage);
    source = made.get();
    view = std::make_shared<View>(std::move(made), View::Settings{.fresh = 0, .faults_fresh = 0, .clock = clock.clock()});
  }
  void join(Slot slot, const char* name, std::uint64_t incarnation = 7) {
    storage->put_lease(storage->host(slot, name, incarnation, true));
    storage->fake_locks.held.insert(slot);
  }
};

struct NewsTest : EventTest {
  NewsWatch watch{*view};
};

TEST_F(NewsTest, WhatIsThereIsNoNews) {
  join(0, "alpha");
  test::put_sockets(*storage, 0, {{.state = ScbState::kListening, .local_port = 80, .index = 3, .peer_name = {}}});
  EXPECT_EQ(watch.look(), News{});
  EXPECT_EQ(watch.look(), News{});
}

TEST_F(NewsTest, HostsComeAndGo) {
  EXPECT_EQ(watch.look(), News{});
  join(0, "alpha");
  join(1, "beta");
  EXPECT_EQ(watch.look(), (News{"host up alpha incarnation 7", "host up beta incarnation 7"}));
  storage->fake_locks.held.erase(1);
  EXPECT_EQ(watch.look(), News{"host dead beta"});
  join(1, "beta", 8);
  EXPECT_EQ(watch.look(), News{"host up beta incarnation 8"});
  join(1, "beta", 9);  // died and came back between two looks
  EXPECT_EQ(watch.look(), News{"host up beta incarnation 9"});
  storage->put_lease(stp::testing::MemoryStorage::free_lease(1, 9, "beta"));
  EXPECT_EQ(watch.look(), News{"host left beta"});
  storage->put_lease(stp::testing::MemoryStorage::free_lease(1, 9, ""));
  EXPECT_EQ(watch.look(), News{"host gone beta"});
}

TEST_F(NewsTest, SocketsAndPortsOpenAndClose) {
  join(0, "alpha");
  EXPECT_EQ(watch.look(), News{});
  Scb scb{.state = ScbState::kListening, .local_port = 80, .index = 3, .made_ms = 1, .peer_name = {}};
  test::put_sockets(*storage, 0, {scb});
  PortBlock ports{.owner = storage->lease(0).owner, .sequence = 1, .index = 0, .ports = std::vector<PortEntry>(g.ports_a_block())};
  ports.ports[80] = {.state = PortState::kListening, .scb = 3};
  storage->put_ports(ports);
  EXPECT_EQ(watch.look(), (News{"socket opened alpha 3 LISTEN alpha:80 *:*", "port opened alpha 80"}));
  scb.sent = 5;
  test::put_sockets(*storage, 0, {scb});
  EXPECT_EQ(watch.look(), News{}) << "bytes are no news";
  scb.made_ms = 2;
  test::put_sockets(*storage, 0, {scb});
  EXPECT_EQ(watch.look(), (News{"socket closed alpha 3 LISTEN alpha:80 *:*", "socket opened alpha 3 LISTEN alpha:80 *:*"})) << "another one in its place";
  storage->put_lease(stp::testing::MemoryStorage::free_lease(0, 7, "alpha"));
  EXPECT_EQ(watch.look(), (News{"host left alpha", "socket closed alpha 3 LISTEN alpha:80 *:*", "port closed alpha 80"}));
}

TEST_F(NewsTest, FaultsAndLostSourcesAreSaidOnce) {
  join(0, "alpha");
  test::put_sockets(*storage, 0, {});
  EXPECT_EQ(watch.look(), News{});
  storage->block(g.scb_block(0, 1))[300] ^= std::byte{1};
  EXPECT_EQ(watch.look(), News{"fault found alpha: 1 block of the socket table of alpha did not check; `stp check` says more"});
  EXPECT_EQ(watch.look(), News{});
  storage->block(g.scb_block(0, 1))[300] ^= std::byte{1};
  EXPECT_EQ(watch.look(), News{"fault gone alpha: 1 block of the socket table of alpha did not check; `stp check` says more"});
  source->gone = true;
  EXPECT_EQ(watch.look(), News{"source lost: no agent"});
  EXPECT_EQ(watch.look(), News{});
  source->gone = false;
  join(1, "beta");
  EXPECT_EQ(watch.look(), (News{"source back", "host up beta incarnation 7"}));
}

// -- The file. The feed looks on a thread of its own: what the test changes, it changes by the source's flag alone.

struct Events : EventTest {
  std::shared_ptr<EventFeed> feed = make_event_feed(view, {.period = 5 * kMillisecond, .most_bytes = 400});
  NodePtr node = make_events(feed);
  ~Events() override { EXPECT_TRUE(stop(*feed, 30 * kSecond)); }

  std::shared_ptr<OpenFile> open() {
    const auto request = std::make_shared<Asking>();
    static_cast<StreamNode&>(*node).open(request, O_RDONLY);
    EXPECT_EQ(request->result(), 0);
    return request->file();
  }
  static std::shared_ptr<Asking> read(OpenFile& file, std::size_t size = 4096, int flags = O_RDONLY) {
    auto request = std::make_shared<Asking>();
    file.read(request, size, flags);
    return request;
  }
};

TEST_F(Events, AReaderWaitsForWhatHappensAndAllReadersHearIt) {
  const auto one = open(), two = open();
  const auto first = read(*one), second = read(*two);
  EXPECT_FALSE(first->answered());
  source->gone = true;
  EXPECT_EQ(first->result(), 0);
  EXPECT_EQ(second->result(), 0);
  EXPECT_NE(first->text().find("Z source lost: no agent\n"), std::string::npos) << first->text();
  EXPECT_EQ(first->text(), second->text());
  source->gone = false;
  const auto next = read(*one);
  EXPECT_EQ(next->result(), 0);
  EXPECT_NE(next->text().find("Z source back\n"), std::string::npos);
  one->release();
  two->release();
}

TEST_F(Events, OpeningForWritingIsRefused) {
  const auto request = std::make_shared<Asking>();
  static_cast<StreamNode&>(*node).open(request, O_RDWR);
  EXPECT_EQ(request->result(), EACCES);
}

TEST_F(Events, ASignalEndsAWaitAndNothingIsLostByIt) {
  const auto file = open();
  const auto interrupted = read(*file);
  interrupted->interrupt();
  EXPECT_EQ(interrupted->result(), EINTR);
  const auto early = std::make_shared<Asking>();
  early->interrupt();
  file->read(early, 4096, O_RDONLY);
  EXPECT_EQ(early->result(), EINTR);
  source->gone = true;
  EXPECT_NE(read(*file)->result(), Asking::kNoAnswer);
  file->release();
}

TEST_F(Events, NonblockingReadsAndPollsSayWhetherThereIsSomething) {
  const auto file = open();
  EXPECT_EQ(read(*file, 4096, O_RDONLY | O_NONBLOCK)->result(), EAGAIN);
  const auto waker = std::make_shared<Waking>();
  EXPECT_EQ(file->poll(waker), 0u);
  source->gone = true;
  EXPECT_TRUE(waker->woken_within(30s));
  EXPECT_NE(file->poll(nullptr) & POLLIN, 0u);
  EXPECT_EQ(read(*file, 4096, O_RDONLY | O_NONBLOCK)->result(), 0);
  EXPECT_EQ(file->poll(nullptr), 0u);
  file->release();
}

TEST_F(Events, SmallReadsGiveEverythingInOrder) {
  const auto file = open();
  source->gone = true;
  const auto first = read(*file, 10);
  EXPECT_EQ(first->result(), 0);
  std::string all = first->text();
  EXPECT_EQ(all.size(), 10u) << "a line that does not fit comes in pieces";
  while (all.back() != '\n') {
    const auto more = read(*file, 7);
    ASSERT_EQ(more->result(), 0);
    all += more->text();
  }
  EXPECT_NE(all.find("Z source lost: no agent\n"), std::string::npos);
  file->release();
}

TEST_F(Events, WhoDoesNotReadIsToldHowMuchWasLost) {
  const auto idle = open(), busy = open();
  for (int i = 0; i < 40; ++i) {
    source->gone = i % 2 == 0;
    ASSERT_EQ(read(*busy)->result(), 0);
  }
  std::string all;
  for (;;) {
    const auto part = read(*idle, 100, O_NONBLOCK);
    if (part->result() == EAGAIN) break;
    all += part->text();
  }
  EXPECT_LE(all.size(), 400u);
  source->gone = true;
  const auto after = read(*idle);
  ASSERT_EQ(after->result(), 0);
  EXPECT_NE(after->text().find(" events lost "), std::string::npos) << after->text();
  EXPECT_NE(after->text().find("source lost"), std::string::npos) << after->text();
  idle->release();
  busy->release();
}

TEST_F(Events, NobodyLooksWhenNobodyListens) {
  open()->release();
  // The thread may be in a last look.
  int before = -1;
  for (int quiet = 0; quiet < 10;) {
    const int now = storage->reads;
    quiet = now == before ? quiet + 1 : 0;
    before = now;
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_EQ(storage->reads, before);
}

TEST(EventsOfAStorageThatHangs, HoldNobodyUpWhoOpensThem) {
  auto made = std::make_unique<test::HangingSource>();
  test::HangingSource& source = *made;
  const auto view = std::make_shared<View>(std::move(made), View::Settings{.deadline = 30 * kSecond});
  const auto feed = make_event_feed(view, {.deadline = 200 * kMillisecond});
  const NodePtr node = make_events(feed);
  const auto open = [&] {
    const auto request = std::make_shared<Asking>();
    static_cast<StreamNode&>(*node).open(request, O_RDONLY);
    return request;
  };
  const auto patient = open(), hit = open();
  source.await_question();
  hit->interrupt();
  EXPECT_EQ(hit->result(), EINTR);
  EXPECT_EQ(patient->result(), ETIMEDOUT);
  const auto waiting = open();
  EXPECT_FALSE(stop(*feed, 0)) << "the look hangs";
  EXPECT_EQ(waiting->result(), ENODEV);
  source.answer();
  EXPECT_TRUE(stop(*feed, 30 * kSecond));
}

TEST_F(Events, TheEndAnswersWhoWaits) {
  const auto file = open();
  const auto waiting = read(*file);
  EXPECT_TRUE(stop(*feed, 30 * kSecond));
  EXPECT_EQ(waiting->result(), ENODEV);
  EXPECT_EQ(read(*file)->result(), ENODEV);
  const auto late = std::make_shared<Asking>();
  static_cast<StreamNode&>(*node).open(late, O_RDONLY);
  EXPECT_EQ(late->result(), ENODEV);
  file->release();
}

}  // namespace
}  // namespace stp::view
