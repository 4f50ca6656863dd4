// Readiness of many sockets under random traffic, held against what poll(2) says of as many socketpairs that went through the same.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(20);
constexpr short kCompared = POLLIN | POLLOUT | POLLRDHUP;  // POLLHUP is another thing for AF_UNIX than for TCP, which STP follows
constexpr std::size_t kMostUnread = 16 * 1024;  // of a direction: no buffer of either kind is ever full

// A conversation and its model: end 0 and end 1 of each.
struct Twin {
  std::array<Owned, 2> ours;
  std::array<int, 2> model{-1, -1};
  std::array<std::size_t, 2> unread{};   // sent by the end, and not read at the other
  std::array<bool, 2> ended{};           // the end sends no more
  Twin() = default;
  Twin(Twin&& other) noexcept : ours(std::move(other.ours)), model(std::exchange(other.model, {-1, -1})), unread(other.unread), ended(other.ended) {}
  ~Twin() {
    for (const int fd : model)
      if (fd >= 0) ::close(fd);
  }
};

std::size_t affordable(std::size_t wanted) {
  rlimit limit = {};
  (void)::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
  return std::min<std::size_t>(wanted, (limit.rlim_cur - 100) / 6);  // two of each kind, and two shown
}

class ManySockets : public ::testing::Test {
 protected:
  void make(std::size_t count) {
    const std::size_t got = affordable(count);
    if (got < count) std::printf("only %zu of %zu conversations: descriptors are short here\n", got, count);
    const Owned listener = listening_socket(64);
    const std::uint16_t port = port_of(listener);
    for (std::size_t i = 0; i < got; ++i) {
      Twin twin;
      twin.ours[0] = open_socket();
      ASSERT_EQ(connect_to(twin.ours[0], "", port), 0) << i << ' ' << STPstrerror(twin.ours[0]);
      twin.ours[1] = Owned(STPaccept(listener, nullptr, nullptr));
      ASSERT_GE(twin.ours[1].get(), 0) << i << ' ' << STPstrerror(listener);
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, twin.model.data()), 0);
      twins_.push_back(std::move(twin));
    }
  }

  // One of the things that programs do, to both.
  void act() {
    Twin& twin = twins_[random_() % twins_.size()];
    const std::size_t end = random_() % 2;
    const unsigned what = static_cast<unsigned>(random_() % 100);
    if (what < 60) {
      const std::size_t size = 1 + random_() % 300;
      if (twin.ended[end] || twin.unread[end] + size > kMostUnread) return;
      const std::vector<std::byte> data(size);
      ASSERT_EQ(STPsend(twin.ours[end], data.data(), size, MSG_DONTWAIT), static_cast<ssize_t>(size)) << STPstrerror(-1);
      ASSERT_EQ(::send(twin.model[end], data.data(), size, 0), static_cast<ssize_t>(size));
      twin.unread[end] += size;
    } else if (what < 97) {
      read_some(twin, end, 1 + random_() % 2000);
    } else if (!twin.ended[end]) {
      ASSERT_EQ(STPshutdown(twin.ours[end], SHUT_WR), 0);
      ASSERT_EQ(::shutdown(twin.model[end], SHUT_WR), 0);
      twin.ended[end] = true;
    }
  }

  // What the other end sent, as much of it as `most`.
  void read_some(Twin& twin, std::size_t end, std::size_t most) {
    const std::size_t size = std::min(most, twin.unread[1 - end]);
    if (size == 0) return;
    std::vector<std::byte> into(size);
    ASSERT_EQ(STPrecv(twin.ours[end], into.data(), size, MSG_WAITALL), static_cast<ssize_t>(size)) << STPstrerror(-1);
    ASSERT_EQ(::recv(twin.model[end], into.data(), size, 0), static_cast<ssize_t>(size));
    twin.unread[1 - end] -= size;
  }

  std::vector<pollfd> list(bool ours) const {
    std::vector<pollfd> out;
    for (const Twin& twin : twins_)
      for (std::size_t end = 0; end < 2; ++end) out.push_back({ours ? twin.ours[end].get() : twin.model[end], kCompared, 0});
    return out;
  }

  // Both say the same: at once where bytes are there at once, soon where they travel.
  void compare() {
    std::vector<pollfd> model = list(false), ours = list(true);
    ASSERT_GE(::poll(model.data(), model.size(), 0), 0);
    std::size_t different = 0;
    for (const auto until = Clock::now() + kPatience;;) {
      const int count = STPpoll(ours.data(), ours.size(), 0);
      different = 0;
      int ready = 0;
      for (std::size_t i = 0; i < ours.size(); ++i) {
        different += (ours[i].revents & kCompared) != (model[i].revents & kCompared);
        ready += ours[i].revents != 0;
      }
      ASSERT_EQ(count, ready);
      if (different == 0 || Clock::now() > until) break;
      ::usleep(500);
    }
    for (std::size_t i = 0; different > 0 && i < ours.size(); ++i)
      EXPECT_EQ(ours[i].revents & kCompared, model[i].revents & kCompared) << "conversation " << i / 2 << " end " << i % 2;
  }

  // The ends that have nothing to read, and can yet get something.
  std::vector<std::size_t> quiet_ends() const {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < 2 * twins_.size(); ++i)
      if (const Twin& twin = twins_[i / 2]; twin.unread[1 - i % 2] == 0 && !twin.ended[1 - i % 2]) out.push_back(i);
    return out;
  }

  void send_to(std::size_t at, std::size_t size) {
    Twin& twin = twins_[at / 2];
    const std::size_t sender = 1 - at % 2;
    const std::vector<std::byte> data(size);
    EXPECT_EQ(STPsend(twin.ours[sender], data.data(), size, 0), static_cast<ssize_t>(size));
    EXPECT_EQ(::send(twin.model[sender], data.data(), size, 0), static_cast<ssize_t>(size));
    twin.unread[sender] += size;
  }

  std::vector<Twin> twins_;
  std::mt19937 random_{7};
};

TEST_F(ManySockets, AreAsReadyAsSocketpairsAre) {
  make(served_by_agent() ? 1000 : 300);
  for (int round = 0; round < 40 && !HasFatalFailure(); ++round) {
    for (int i = 0; i < 500 && !HasFatalFailure(); ++i) act();
    compare();
  }
}

// A sleeper over all that is quiet is woken by the one that is not, wherever that is and whenever it comes.
TEST_F(ManySockets, WakeASleeperFromAmongThousands) {
  make(served_by_agent() ? 1000 : 200);
  for (int round = 0; round < 100 && !HasFatalFailure(); ++round) {
    const std::vector<std::size_t> quiet = quiet_ends();
    std::vector<pollfd> waits;
    for (const std::size_t at : quiet) waits.push_back({twins_[at / 2].ours[at % 2], POLLIN, 0});
    const std::size_t chosen = random_() % quiet.size();
    const unsigned delay_us = static_cast<unsigned>(random_() % 3000);
    std::thread sender([&] {
      ::usleep(delay_us);
      send_to(quiet[chosen], 10);
    });
    const int count = STPpoll(waits.data(), waits.size(), static_cast<int>(std::chrono::milliseconds(kPatience).count()));
    sender.join();
    ASSERT_EQ(count, 1) << round;
    ASSERT_EQ(waits[chosen].revents, POLLIN) << round;
    read_some(twins_[quiet[chosen] / 2], quiet[chosen] % 2, 10);
  }
}

// All send small and larger pieces at the same time, as fast as poll lets them, and end: more than stands in a line at once.
class ManySenders : public ManySockets, public ::testing::WithParamInterface<bool> {
 protected:
  static constexpr std::size_t kEachWay = kSanitized ? 6'000 : 60'000;
  static std::byte byte_at(std::size_t end, std::size_t offset) { return static_cast<std::byte>((offset * 2654435761u >> 9) + end); }
  static bool sends(std::size_t end) { return GetParam() || end % 2 == 0; }
  int socket_of(std::size_t end) const { return twins_[end / 2].ours[end % 2]; }

  // Goes through the ends that are ready, until act(end) has said true of each.
  template <class Act>
  void each_until_done(std::vector<std::size_t> ends, short events, Act act) {
    for (const auto until = Clock::now() + 3 * kPatience; !ends.empty() && !HasFatalFailure();) {
      ASSERT_LT(Clock::now(), until) << ends.size() << " ends are not done";
      std::vector<pollfd> waits;
      for (const std::size_t end : ends) waits.push_back({socket_of(end), events, 0});
      ASSERT_GT(STPpoll(waits.data(), waits.size(), static_cast<int>(std::chrono::milliseconds(kPatience).count())), 0) << ends.size() << " ends are not done";
      std::vector<std::size_t> left;
      for (std::size_t i = 0; i < ends.size(); ++i)
        if (waits[i].revents == 0 || !act(ends[i])) left.push_back(ends[i]);
      ends = std::move(left);
    }
  }
  void send_all() {
    std::mt19937 random(8);
    std::vector<std::size_t> ends, sent(2 * twins_.size());
    for (std::size_t end = 0; end < sent.size(); ++end)
      if (sends(end)) ends.push_back(end);
    std::vector<std::byte> piece(8192);
    each_until_done(ends, POLLOUT, [&](std::size_t end) {
      const std::size_t most = random() % 32 == 0 ? piece.size() : 200;
      const std::size_t size = std::min(1 + random() % most, kEachWay - sent[end]);
      for (std::size_t k = 0; k < size; ++k) piece[k] = byte_at(end, sent[end] + k);
      const ssize_t put = STPsend(socket_of(end), piece.data(), size, MSG_DONTWAIT);
      EXPECT_TRUE(put >= 0 || errno == EAGAIN) << STPstrerror(socket_of(end));
      sent[end] += put > 0 ? static_cast<std::size_t>(put) : 0;
      return sent[end] == kEachWay && STPshutdown(socket_of(end), SHUT_WR) == 0;
    });
  }
  void receive_all() {
    std::vector<std::size_t> ends, received(2 * twins_.size());
    for (std::size_t end = 0; end < received.size(); ++end)
      if (sends(end ^ 1)) ends.push_back(end);
    std::vector<std::byte> piece(8192);
    each_until_done(ends, POLLIN, [&](std::size_t end) {
      const ssize_t got = STPrecv(socket_of(end), piece.data(), 1 + random_() % piece.size(), MSG_DONTWAIT);
      EXPECT_TRUE(got >= 0 || errno == EAGAIN) << STPstrerror(socket_of(end));
      std::size_t wrong = 0;
      for (std::size_t k = 0; got > 0 && k < static_cast<std::size_t>(got); ++k) wrong += piece[k] != byte_at(end ^ 1, received[end] + k);
      EXPECT_EQ(wrong, 0u) << "end " << end << " after " << received[end];
      received[end] += got > 0 ? static_cast<std::size_t>(got) : 0;
      EXPECT_TRUE(got != 0 || received[end] == kEachWay) << "end " << end << " after " << received[end];
      return got == 0;
    });
  }
};

TEST_P(ManySenders, CarryAllWhileAllSendAtOnce) {
  make(300);
  std::thread sender([this] { send_all(); });
  receive_all();
  sender.join();
}

INSTANTIATE_TEST_SUITE_P(BothWays, ManySenders, ::testing::Bool());

// The same through descriptors in an epoll, level-triggered: what was not read is told again.
TEST_F(ManySockets, ShowThemselvesToAnEpoll) {
  make(served_by_agent() ? 1000 : 200);
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  for (std::size_t i = 0; i < 2 * twins_.size(); ++i) {
    epoll_event event = {.events = EPOLLIN, .data = {.u64 = i}};
    ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, STPgetpollfd(twins_[i / 2].ours[i % 2], POLLIN), &event), 0);
  }
  for (int round = 0; round < 100 && !HasFatalFailure(); ++round) {
    std::vector<std::size_t> chosen;
    const std::vector<std::size_t> quiet = quiet_ends();
    std::sample(quiet.begin(), quiet.end(), std::back_inserter(chosen), 1 + random_() % 20, random_);
    std::thread sender([&] {
      for (const std::size_t at : chosen) send_to(at, 20);
    });
    std::vector<std::size_t> half_read, done;
    for (const auto until = Clock::now() + kPatience; done.size() < chosen.size() && Clock::now() < until;) {
      std::array<epoll_event, 16> events{};
      int count = 0;
      do count = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 1000);
      while (count < 0 && errno == EINTR);  // see the limits in README.md
      for (int i = 0; i < count; ++i) {
        const std::size_t at = events[static_cast<std::size_t>(i)].data.u64;
        std::array<std::byte, 10> part{};
        // A descriptor may show what was taken a moment ago.
        const ssize_t got = STPrecv(twins_[at / 2].ours[at % 2], part.data(), part.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) continue;
        ASSERT_EQ(got, 10) << round << ' ' << STPstrerror(-1);
        const bool first = std::ranges::find(half_read, at) == half_read.end();
        (first ? half_read : done).push_back(at);
      }
    }
    sender.join();
    std::ranges::sort(done);
    ASSERT_EQ(done, chosen) << round;
    for (const std::size_t at : chosen) twins_[at / 2].unread[1 - at % 2] -= 20;
  }
  ::close(epoll);
}

}  // namespace
}  // namespace stp::test
