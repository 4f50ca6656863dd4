// STPpoll, STPselect, STPgetpollfd: readiness as poll(2) gives it for kernel sockets.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

constexpr int kSoonMs = 10'000;  // never reached where the code is right

short poll_one(int fd, short events, int timeout_ms) {
  pollfd p{.fd = fd, .events = events, .revents = 0};
  const int count = STPpoll(&p, 1, timeout_ms);
  EXPECT_EQ(count, p.revents != 0 ? 1 : 0) << STPstrerror(-1);
  return p.revents;
}

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  int ends[2];
};

TEST(Poll, SaysNothingOfAQuietSocketAndThenThatDataCame) {
  const Pair pair = connected_pair();
  EXPECT_EQ(poll_one(pair.server, POLLIN, 0), 0);
  EXPECT_EQ(poll_one(pair.server, POLLIN, 30), 0);
  ASSERT_EQ(STPsend(pair.client, "x", 1, 0), 1);
  EXPECT_EQ(poll_one(pair.server, POLLIN, kSoonMs), POLLIN);
  EXPECT_EQ(poll_one(pair.server, POLLIN, 0), POLLIN) << "level-triggered";
  char byte;
  ASSERT_EQ(STPrecv(pair.server, &byte, 1, 0), 1);
  EXPECT_EQ(poll_one(pair.server, POLLIN, 0), 0);
  EXPECT_EQ(poll_one(pair.client, POLLIN | POLLOUT, 0), POLLOUT);
}

// Who looks again and again is spared most of the look (AgentSockets::ready_at_a_glance), and still sees at once what comes.
TEST(Poll, SeesAtOnceWhatComesAfterManyLooks) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRounds = 30, kLooks = 10;
  const Pair pair = connected_pair();
  std::vector<Clock::duration> delays;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kLooks; ++i) ASSERT_EQ(poll_one(pair.server, POLLIN, 0), 0);
    ASSERT_EQ(STPsend(pair.client, "x", 1, 0), 1);
    const auto sent = Clock::now();
    while (poll_one(pair.server, POLLIN, 0) == 0) ASSERT_LT(Clock::now() - sent, std::chrono::milliseconds(kSoonMs));
    delays.push_back(Clock::now() - sent);
    char byte;
    ASSERT_EQ(STPrecv(pair.server, &byte, 1, 0), 1);
  }
  // Without the news it would be seen when the program doubts what it knows, four times a second.
  std::ranges::nth_element(delays, delays.begin() + kRounds / 2);
  EXPECT_LT(delays[kRounds / 2], std::chrono::milliseconds(60));
}

TEST(Poll, TellsTheEndOfTheOtherSideAndOfBoth) {
  const Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  EXPECT_EQ(poll_one(pair.server, POLLIN, kSoonMs), POLLIN);
  EXPECT_EQ(poll_one(pair.server, POLLIN | POLLRDHUP, 0), POLLIN | POLLRDHUP);
  char byte;
  EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 0);
  ASSERT_EQ(STPshutdown(pair.server, SHUT_WR), 0);
  EXPECT_EQ(poll_one(pair.client, POLLIN, kSoonMs) & POLLIN, POLLIN);
  EXPECT_EQ(poll_one(pair.client, 0, kSoonMs), POLLHUP);
}

TEST(Poll, TellsAResetAsAnError) {
  Pair pair = connected_pair();
  const linger abort{.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(STPsetsockopt(pair.client, SOL_SOCKET, SO_LINGER, &abort, sizeof abort), 0);
  ASSERT_EQ(pair.client.close(), 0);
  EXPECT_EQ(poll_one(pair.server, POLLIN, kSoonMs) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
  char byte;
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), ECONNRESET);
}

// Nothing more is read there, and nothing sent: a reset must not wait for either.
TEST(Poll, TellsAResetAfterTheEndOfTheOtherSide) {
  Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  char byte;
  ASSERT_EQ(STPrecv(pair.server, &byte, 1, 0), 0);
  EXPECT_EQ(poll_one(pair.server, 0, 30), 0);
  const linger abort{.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(STPsetsockopt(pair.client, SOL_SOCKET, SO_LINGER, &abort, sizeof abort), 0);
  ASSERT_EQ(pair.client.close(), 0);
  EXPECT_EQ(poll_one(pair.server, 0, kSoonMs), POLLERR | POLLHUP);
  int error = 0;
  socklen_t length = sizeof error;
  ASSERT_EQ(STPgetsockopt(pair.server, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNRESET);
}

TEST(Poll, TellsWhenRoomComesBackAfterSendWasFull) {
  const Pair pair = connected_pair();
  const auto taken = static_cast<ssize_t>(fill(pair.client));
  EXPECT_EQ(poll_one(pair.client, POLLOUT, 0), 0);
  std::thread reader([&pair, taken] {
    std::vector<char> into(1 << 20);
    for (ssize_t left = taken; left > 0;) {
      const ssize_t n = STPrecv(pair.server, into.data(), into.size(), 0);
      if (n <= 0) return;
      left -= n;
    }
  });
  EXPECT_EQ(poll_one(pair.client, POLLOUT, kSoonMs), POLLOUT);
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  reader.join();
}

TEST(Poll, TellsListenersAndConnectsThatEnded) {
  const Owned listener = listening_socket();
  EXPECT_EQ(poll_one(listener, POLLIN, 0), 0);
  const Owned s = open_socket(SOCK_NONBLOCK);
  EXPECT_EQ(poll_one(s, POLLIN | POLLOUT, 0), POLLOUT | POLLHUP) << "as a TCP socket that was never connected";
  EXPECT_FAILS(connect_to(s, kMyHost, port_of(listener)), EINPROGRESS);
  EXPECT_EQ(poll_one(s, POLLOUT, kSoonMs), POLLOUT);
  EXPECT_EQ(poll_one(listener, POLLIN, kSoonMs), POLLIN);
  const Owned refused = open_socket(SOCK_NONBLOCK);
  EXPECT_FAILS(connect_to(refused, kMyHost, 9), EINPROGRESS);
  EXPECT_EQ(poll_one(refused, POLLOUT, kSoonMs) & (POLLOUT | POLLERR), POLLOUT | POLLERR);
  int error = 0;
  socklen_t length = sizeof error;
  ASSERT_EQ(STPgetsockopt(refused, SOL_SOCKET, SO_ERROR, &error, &length), 0);
  EXPECT_EQ(error, ECONNREFUSED);
}

TEST(Poll, MixesSocketsWithOrdinaryDescriptors) {
  const Pair pair = connected_pair();
  const Pipe pipe;
  pollfd both[] = {{.fd = pair.server, .events = POLLIN, .revents = 0}, {.fd = pipe.ends[0], .events = POLLIN, .revents = 0}, {.fd = -1, .events = POLLIN, .revents = 7}};
  EXPECT_EQ(STPpoll(both, 3, 20), 0);
  EXPECT_EQ(both[2].revents, 0);
  std::thread writer([&pipe] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(::write(pipe.ends[1], "p", 1), 1);
  });
  EXPECT_EQ(STPpoll(both, 3, kSoonMs), 1);
  writer.join();
  EXPECT_EQ(both[0].revents, 0);
  EXPECT_EQ(both[1].revents, POLLIN);
  char byte;
  EXPECT_EQ(::read(pipe.ends[0], &byte, 1), 1);
  std::thread sender([&pair] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(STPsend(pair.client, "s", 1, 0), 1);
  });
  EXPECT_EQ(STPpoll(both, 3, kSoonMs), 1);
  sender.join();
  EXPECT_EQ(both[0].revents, POLLIN);
  EXPECT_EQ(both[1].revents, 0);
}

TEST(Poll, EndsWithASignalWhateverItsHandlerSays) {
  const Pair pair = connected_pair();
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const pthread_t me = ::pthread_self();
  std::thread other([me] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ::pthread_kill(me, SIGUSR1);
  });
  pollfd p{.fd = pair.server, .events = POLLIN, .revents = 0};
  EXPECT_FAILS(STPpoll(&p, 1, kSoonMs), EINTR);
  other.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(Poll, SaysThatASocketIsGoneWhichAnotherThreadCloses) {
  Pair pair = connected_pair();
  const int number = pair.server.get();
  std::thread closer([&pair] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(pair.server.close(), 0);
  });
  EXPECT_EQ(poll_one(number, POLLIN, kSoonMs), POLLNVAL);
  closer.join();
}

TEST(Select, CountsAndClearsBits) {
  const Pair pair = connected_pair();
  const Pipe pipe;
  ASSERT_EQ(STPsend(pair.client, "x", 1, 0), 1);
  ASSERT_EQ(poll_one(pair.server, POLLIN, kSoonMs), POLLIN);
  fd_set readable, writable, exceptional;
  FD_ZERO(&readable);
  FD_ZERO(&writable);
  FD_ZERO(&exceptional);
  for (const int fd : {pair.server.get(), pair.client.get(), pipe.ends[0]}) {
    FD_SET(fd, &readable);
    FD_SET(fd, &exceptional);
  }
  FD_SET(pair.client, &writable);
  FD_SET(pipe.ends[1], &writable);
  const int most = std::max({pair.server.get(), pair.client.get(), pipe.ends[0], pipe.ends[1]});
  timeval timeout{.tv_sec = 5, .tv_usec = 0};
  EXPECT_EQ(STPselect(most + 1, &readable, &writable, &exceptional, &timeout), 3);
  EXPECT_TRUE(FD_ISSET(pair.server, &readable));
  EXPECT_FALSE(FD_ISSET(pair.client, &readable));
  EXPECT_FALSE(FD_ISSET(pipe.ends[0], &readable));
  EXPECT_TRUE(FD_ISSET(pair.client, &writable));
  EXPECT_TRUE(FD_ISSET(pipe.ends[1], &writable));
  EXPECT_FALSE(FD_ISSET(pair.server, &exceptional));
  EXPECT_GE(timeout.tv_sec, 4);
}

TEST(Select, ChecksItsArguments) {
  const Owned s = open_socket();
  fd_set readable;
  FD_ZERO(&readable);
  FD_SET(900, &readable);
  FD_SET(s, &readable);
  EXPECT_FAILS(STPselect(901, &readable, nullptr, nullptr, nullptr), EBADF);
  EXPECT_FAILS(STPselect(-1, nullptr, nullptr, nullptr, nullptr), EINVAL);
  timeval wrong{.tv_sec = 0, .tv_usec = 1'000'000};
  EXPECT_FAILS(STPselect(0, nullptr, nullptr, nullptr, &wrong), EINVAL);
}

TEST(PollDescriptor, ShowsReadinessToAnEventLoopOfTheKernel) {
  const Pair pair = connected_pair();
  const int shown = STPgetpollfd(pair.server, POLLIN);
  ASSERT_GE(shown, 0) << STPstrerror(-1);
  EXPECT_EQ(STPgetpollfd(pair.server, POLLIN), shown);
  EXPECT_FAILS(STPgetpollfd(pair.server, POLLNVAL), EINVAL);
  const int loop = ::epoll_create1(EPOLL_CLOEXEC);
  // The kernel may end a wait with EINTR when I/O of this thread has completed.
  const auto wait = [loop](epoll_event* into, int timeout_ms) {
    int count;
    do {
      count = ::epoll_wait(loop, into, 1, timeout_ms);
    } while (count < 0 && errno == EINTR);
    return count;
  };
  epoll_event event{.events = EPOLLIN, .data = {.fd = shown}};
  ASSERT_EQ(::epoll_ctl(loop, EPOLL_CTL_ADD, shown, &event), 0);
  EXPECT_EQ(wait(&event, 0), 0);
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(STPsend(pair.client, "xy", 2, 0), 2);
    ASSERT_EQ(wait(&event, kSoonMs), 1) << "round " << round;
    EXPECT_EQ(wait(&event, 0), 1) << "level-triggered";
    EXPECT_EQ(receive_exactly(pair.server, 2).size(), 2u);
    EXPECT_EQ(wait(&event, 0), 0) << "round " << round;
  }
  ::close(loop);
}

// Random traffic over many connections; after every burst poll must say of each what poll(2) says of a socketpair that carries
// the same. What was sent needs a moment on the way: hence the waiting, bounded, by poll itself.
TEST(Poll, AgreesWithSocketpairsUnderRandomReadiness) {
  constexpr int kPairs = 60;
  std::mt19937 random(7);
  std::vector<Pair> pairs;
  std::vector<std::array<int, 2>> kernel(kPairs);
  for (int i = 0; i < kPairs; ++i) {
    pairs.push_back(connected_pair());
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, kernel[static_cast<std::size_t>(i)].data()), 0);
  }
  std::vector<int> waiting(kPairs);
  for (int round = 0; round < 60; ++round) {
    for (int burst = 0; burst < 10; ++burst) {
      const auto i = static_cast<std::size_t>(random() % kPairs);
      if (random() % 2 == 0) {
        ASSERT_EQ(STPsend(pairs[i].client, "x", 1, 0), 1);
        ASSERT_EQ(::send(kernel[i][0], "x", 1, 0), 1);
        ++waiting[i];
      } else if (waiting[i] > 0) {
        char byte;
        ASSERT_EQ(STPrecv(pairs[i].server, &byte, 1, 0), 1);
        ASSERT_EQ(::recv(kernel[i][1], &byte, 1, 0), 1);
        --waiting[i];
      }
    }
    std::vector<pollfd> ours, theirs;
    for (std::size_t i = 0; i < kPairs; ++i) {
      theirs.push_back({.fd = kernel[i][1], .events = POLLIN, .revents = 0});
      if (waiting[i] > 0) {
        ASSERT_EQ(poll_one(pairs[i].server, POLLIN, kSoonMs), POLLIN) << "a wake-up was lost, round " << round;
      }
      ours.push_back({.fd = pairs[i].server, .events = POLLIN, .revents = 0});
    }
    ASSERT_EQ(STPpoll(ours.data(), ours.size(), 0), ::poll(theirs.data(), theirs.size(), 0));
    for (std::size_t i = 0; i < kPairs; ++i) ASSERT_EQ(ours[i].revents, theirs[i].revents) << "pair " << i << ", round " << round;
  }
  for (auto& ends : kernel)
    for (const int fd : ends) ::close(fd);
}

// One thread sends to sockets at random, one at a time, and waits for the answer; the other waits for all of them at once. A lost
// wake-up is a hang of kSoonMs.
TEST(Poll, LosesNoWakeUpAmongManySockets) {
  constexpr int kPairs = 60, kRounds = 400;
  std::vector<Pair> pairs;
  for (int i = 0; i < kPairs; ++i) pairs.push_back(connected_pair());
  for (const bool mixed : {false, true}) {
    const Pipe pipe;
    std::thread server([&] {
      for (int answered = 0; answered < kRounds;) {
        std::vector<pollfd> all;
        for (const Pair& pair : pairs) all.push_back({.fd = pair.server, .events = POLLIN, .revents = 0});
        if (mixed) all.push_back({.fd = pipe.ends[0], .events = POLLIN, .revents = 0});
        ASSERT_GT(STPpoll(all.data(), all.size(), kSoonMs), 0) << "after " << answered;
        for (const pollfd& p : all) {
          if (p.revents == 0) continue;
          char byte;
          ASSERT_EQ(STPrecv(p.fd, &byte, 1, 0), 1);
          ASSERT_EQ(STPsend(p.fd, &byte, 1, 0), 1);
          ++answered;
        }
      }
    });
    std::mt19937 random(11);
    for (int round = 0; round < kRounds; ++round) {
      const Pair& pair = pairs[random() % kPairs];
      ASSERT_EQ(STPsend(pair.client, "q", 1, 0), 1);
      ASSERT_EQ(poll_one(pair.client, POLLIN, kSoonMs), POLLIN) << "round " << round;
      char byte;
      ASSERT_EQ(STPrecv(pair.client, &byte, 1, 0), 1);
    }
    server.join();
  }
}

}  // namespace
}  // namespace stp::test
