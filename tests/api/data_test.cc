// Bytes there and back, end of file, errors: as BSD sockets do it.
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

constexpr std::size_t kMiB = 1 << 20;

void wait_until_readable(int s, int bytes) {
  for (int there = 0; there < bytes; ::poll(nullptr, 0, 1)) ASSERT_EQ(STPioctl(s, FIONREAD, &there), 0);
}

std::atomic<int> signals_seen{0};
void count_signal(int) { ++signals_seen; }

void handle(int number, int flags) {
  struct sigaction action = {};
  action.sa_handler = count_signal;
  action.sa_flags = flags;
  ASSERT_EQ(::sigaction(number, &action, nullptr), 0);
}

}  // namespace

TEST(Data, ArrivesAsItWasSent) {
  const Pair pair = connected_pair();
  for (const std::size_t size : {std::size_t{1}, std::size_t{63}, std::size_t{4096}, std::size_t{100'000}, 3 * kMiB}) {
    const auto data = pattern(size, size);
    std::thread sender([&] { EXPECT_TRUE(send_all(pair.client, data)) << STPstrerror(-1); });
    EXPECT_EQ(receive_exactly(pair.server, size), data) << size;
    sender.join();
  }
}

TEST(Data, GoesBothWaysAtOnce) {
  const Pair pair = connected_pair();
  const auto there = pattern(2 * kMiB, 7);
  const auto back = pattern(2 * kMiB, 8);
  std::thread a([&] { EXPECT_TRUE(send_all(pair.client, there)); });
  std::thread b([&] { EXPECT_TRUE(send_all(pair.server, back)); });
  std::thread c([&] { EXPECT_EQ(receive_exactly(pair.client, back.size()), back); });
  EXPECT_EQ(receive_exactly(pair.server, there.size()), there);
  a.join();
  b.join();
  c.join();
}

// However fast they come: whoever does not wait gets what is there.
TEST(Receive, ManySmallMessagesAreThereWhenTheyAreSaidToBe) {
  const Pair pair = connected_pair();
  const auto data = pattern(64 * 50'000, 5);
  std::jthread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 64) EXPECT_EQ(STPsend(pair.client, data.data() + at, 64, 0), 64) << STPstrerror(pair.client);
  });
  std::vector<std::byte> got;
  std::vector<std::byte> part(64 * 1024);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);  // a connection that was reset says 0 bytes for ever
  while (got.size() < data.size()) {
    ASSERT_LT(std::chrono::steady_clock::now(), until) << "after " << got.size() << " bytes";
    int there = 0;
    ASSERT_EQ(STPioctl(pair.server, FIONREAD, &there), 0);
    const bool waits = got.size() % 3 == 0;
    if (there == 0 && !waits) {
      ::sched_yield();
      continue;
    }
    const ssize_t n = STPrecv(pair.server, part.data(), part.size(), waits ? 0 : MSG_DONTWAIT);
    ASSERT_GT(n, 0) << "of " << there << " bytes: " << STPstrerror(pair.server);
    got.insert(got.end(), part.begin(), part.begin() + n);
  }
  sender.join();
  EXPECT_EQ(got, data);
}

TEST(Receive, ANonBlockingSocketGivesEagain) {
  const Pair pair = connected_pair();
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, MSG_DONTWAIT), EAGAIN);
  int on = 1;
  ASSERT_EQ(STPioctl(pair.server, FIONBIO, &on), 0);
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), EAGAIN);
  EXPECT_EQ(STPerror(pair.server), STP_OK);
}

TEST(Receive, EndsAtItsTimeout) {
  const Pair pair = connected_pair();
  const timeval timeout = {.tv_sec = 0, .tv_usec = 20'000};
  ASSERT_EQ(STPsetsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), EAGAIN);
}

TEST(Receive, PeekLeavesTheBytesWhereTheyAre) {
  const Pair pair = connected_pair();
  ASSERT_EQ(STPsend(pair.client, "abc", 3, 0), 3);
  wait_until_readable(pair.server, 3);
  std::array<char, 8> into{};
  ASSERT_EQ(STPrecv(pair.server, into.data(), into.size(), MSG_PEEK), 3);
  ASSERT_EQ(STPrecv(pair.server, into.data(), 2, MSG_PEEK), 2);
  ASSERT_EQ(STPrecv(pair.server, into.data(), into.size(), 0), 3);
  EXPECT_EQ(std::string(into.data(), 3), "abc");
}

TEST(Receive, WaitallWaitsForAllOrTheEnd) {
  Pair pair = connected_pair();
  const auto data = pattern(300'000);
  std::thread sender([&] {
    for (std::size_t at = 0; at < data.size(); at += 50'000) ASSERT_EQ(STPsend(pair.client, data.data() + at, 50'000, 0), 50'000);
    STPshutdown(pair.client, SHUT_WR);
  });
  std::vector<std::byte> into(250'000);
  EXPECT_EQ(STPrecv(pair.server, into.data(), into.size(), MSG_WAITALL), 250'000);
  EXPECT_TRUE(std::equal(into.begin(), into.end(), data.begin()));
  EXPECT_EQ(STPrecv(pair.server, into.data(), into.size(), MSG_WAITALL), 50'000);
  EXPECT_EQ(STPrecv(pair.server, into.data(), into.size(), MSG_WAITALL), 0);
  sender.join();
}

TEST(Receive, NoBytesWantedIsNoWait) {
  const Pair pair = connected_pair();
  char byte = 0;
  ASSERT_EQ(STPsend(pair.client, "x", 1, 0), 1);
  wait_until_readable(pair.server, 1);
  EXPECT_EQ(STPrecv(pair.server, &byte, 0, 0), 0);
  EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 1);
}

TEST(Data, AnUnconnectedSocketHasNone) {
  const Owned s = open_socket();
  char byte = 0;
  EXPECT_FAILS(STPrecv(s, &byte, 1, 0), ENOTCONN);
  EXPECT_FAILS(STPsend(s, &byte, 1, MSG_NOSIGNAL), ENOTCONN);
  EXPECT_FAILS(STPshutdown(s, SHUT_WR), ENOTCONN);
  const Owned listener = listening_socket();
  EXPECT_FAILS(STPrecv(listener, &byte, 1, 0), ENOTCONN);
}

TEST(Data, FlagsThatThereAreNotAreRefused) {
  const Pair pair = connected_pair();
  char byte = 0;
  EXPECT_FAILS(STPsend(pair.client, &byte, 1, MSG_OOB), EOPNOTSUPP);
  EXPECT_FAILS(STPrecv(pair.client, &byte, 1, MSG_OOB), EOPNOTSUPP);
  EXPECT_FAILS(STPsend(pair.client, nullptr, 1, 0), EFAULT);
  EXPECT_FAILS(STPrecv(pair.client, nullptr, 1, 0), EFAULT);
}

TEST(Send, ANonBlockingSocketTakesAPartThenGivesEagain) {
  const Pair pair = connected_pair();
  const std::size_t sent = fill(pair.client);
  EXPECT_GT(sent, 0u);
  std::size_t got = 0;
  std::vector<std::byte> part(kMiB);
  while (got < sent) {
    const ssize_t now = STPrecv(pair.server, part.data(), part.size(), 0);
    ASSERT_GT(now, 0);
    got += static_cast<std::size_t>(now);
  }
  EXPECT_EQ(got, sent);
}

TEST(Send, EndsAtItsTimeout) {
  const Pair pair = connected_pair();
  (void)fill(pair.client);
  const timeval timeout = {.tv_sec = 0, .tv_usec = 20'000};
  ASSERT_EQ(STPsetsockopt(pair.client, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout), 0);
  const auto data = pattern(32 * kMiB);
  // What went in before the buffers were really full counts; in the end nothing does.
  ssize_t sent = 0;
  while ((sent = STPsend(pair.client, data.data(), data.size(), MSG_NOSIGNAL)) > 0) EXPECT_LT(sent, static_cast<ssize_t>(data.size()));
  EXPECT_EQ(sent, -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST(Send, ABlockingSocketTakesAll) {
  const Pair pair = connected_pair();
  const auto data = pattern(24 * kMiB);
  std::thread sender([&] { EXPECT_EQ(STPsend(pair.client, data.data(), data.size(), 0), static_cast<ssize_t>(data.size())); });
  EXPECT_EQ(receive_exactly(pair.server, data.size()), data);
  sender.join();
}

TEST(Vectors, ScatterAndGather) {
  const Pair pair = connected_pair();
  std::string a = "one ", b, c = "two three";
  const std::array<iovec, 3> out = {iovec{a.data(), a.size()}, iovec{b.data(), 0}, iovec{c.data(), c.size()}};
  ASSERT_EQ(STPwritev(pair.client, out.data(), 3), 13);
  wait_until_readable(pair.server, 13);
  std::array<char, 5> first{};
  std::array<char, 20> second{};
  const std::array<iovec, 2> in = {iovec{first.data(), first.size()}, iovec{second.data(), second.size()}};
  ASSERT_EQ(STPreadv(pair.server, in.data(), 2), 13);
  EXPECT_EQ(std::string(first.data(), 5) + std::string(second.data(), 8), "one two three");
  EXPECT_FAILS(STPreadv(pair.server, in.data(), -1), EINVAL);
}

// The parts of a vector leave together: also when the last of them is none, or is nowhere.
TEST(Vectors, WhatWasTakenArrives) {
  const Pair pair = connected_pair();
  std::string a = "one", b = "two";
  const std::array<iovec, 3> empty_end = {iovec{a.data(), 3}, iovec{b.data(), 3}, iovec{a.data(), 0}};
  ASSERT_EQ(STPwritev(pair.client, empty_end.data(), 3), 6);
  wait_until_readable(pair.server, 6);
  const std::array<iovec, 3> bad_end = {iovec{a.data(), 3}, iovec{b.data(), 3}, iovec{nullptr, 1}};
  ASSERT_EQ(STPwritev(pair.client, bad_end.data(), 3), 6);
  wait_until_readable(pair.server, 12);
}

TEST(Counts, SayWhatIsReadableAndWhatIsUnderWay) {
  const Pair pair = connected_pair();
  const auto data = pattern(5000);
  ASSERT_TRUE(send_all(pair.client, data));
  wait_until_readable(pair.server, 5000);
  int there = 0;
  ASSERT_EQ(STPioctl(pair.server, FIONREAD, &there), 0);
  EXPECT_EQ(there, 5000);
  for (int under_way = 1; under_way != 0; ::poll(nullptr, 0, 1)) ASSERT_EQ(STPioctl(pair.client, SIOCOUTQ, &under_way), 0);
  EXPECT_FAILS(STPioctl(pair.client, SIOCATMARK, &there), ENOTTY);
  EXPECT_FAILS(STPioctl(listening_socket(), FIONREAD, &there), EINVAL);
}

TEST(Shutdown, OfWritingGivesThePeerTheEndAndLeavesTheOtherWayOpen) {
  const Pair pair = connected_pair();
  ASSERT_EQ(STPsend(pair.client, "last", 4, 0), 4);
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  EXPECT_EQ(receive_to_end(pair.server).size(), 4u);
  EXPECT_EQ(errno, 0);
  ASSERT_EQ(STPsend(pair.server, "reply", 5, 0), 5);
  EXPECT_EQ(receive_exactly(pair.client, 5).size(), 5u);
  EXPECT_FAILS(STPsend(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(Shutdown, OfReadingGivesTheEndAtOnceAndDoesNotDisturbThePeer) {
  const Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.server, SHUT_RD), 0);
  char byte = 0;
  EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 0);
  EXPECT_TRUE(send_all(pair.client, pattern(100'000)));
  ASSERT_EQ(STPsend(pair.server, "y", 1, 0), 1);
  EXPECT_EQ(receive_exactly(pair.client, 1).size(), 1u);
}

TEST(Shutdown, WakesAThreadThatReads) {
  const Pair pair = connected_pair();
  std::thread reader([&] {
    char byte = 0;
    EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 0);
  });
  ::poll(nullptr, 0, 5);
  ASSERT_EQ(STPshutdown(pair.server, SHUT_RDWR), 0);
  reader.join();
}

TEST(Shutdown, ChecksHow) {
  const Pair pair = connected_pair();
  EXPECT_FAILS(STPshutdown(pair.client, 3), EINVAL);
}

TEST(Signals, EpipeRaisesSigpipeUnlessToldNotTo) {
  handle(SIGPIPE, 0);
  const Pair pair = connected_pair();
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  signals_seen = 0;
  EXPECT_FAILS(STPsend(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(signals_seen, 0);
  EXPECT_FAILS(STPsend(pair.client, "x", 1, 0), EPIPE);
  EXPECT_EQ(signals_seen, 1);
  ::signal(SIGPIPE, SIG_DFL);
}

TEST(Signals, AHandlerWithoutRestartEndsAWait) {
  handle(SIGUSR1, 0);
  const Pair pair = connected_pair();
  std::atomic<bool> ended{false};
  std::thread reader([&] {
    char byte = 0;
    EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), EINTR);
    ended = true;
  });
  while (!ended) {  // some of them may come before it waits
    ::pthread_kill(reader.native_handle(), SIGUSR1);
    ::poll(nullptr, 0, 1);
  }
  reader.join();
  ::signal(SIGUSR1, SIG_DFL);
}

TEST(Signals, AHandlerWithRestartDoesNot) {
  handle(SIGUSR1, SA_RESTART);
  signals_seen = 0;
  const Pair pair = connected_pair();
  std::atomic<bool> ended{false};
  std::thread reader([&] {
    char byte = 0;
    EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 1) << errno;
    ended = true;
  });
  for (int sent = 0; sent < 20 && !ended; ++sent) {
    ::pthread_kill(reader.native_handle(), SIGUSR1);
    while (signals_seen <= sent && !ended) ::sched_yield();
  }
  ASSERT_EQ(STPsend(pair.client, "x", 1, 0), 1);
  reader.join();
  ::signal(SIGUSR1, SIG_DFL);
}

TEST(Close, GivesThePeerTheEndOfFileAfterAllData) {
  Pair pair = connected_pair();
  const auto data = pattern(2 * kMiB);
  std::thread sender([&] {
    EXPECT_TRUE(send_all(pair.client, data));
    EXPECT_EQ(pair.client.close(), 0) << STPstrerror(-1);
  });
  EXPECT_EQ(receive_to_end(pair.server), data);
  EXPECT_EQ(errno, 0);
  sender.join();
}

TEST(Close, WithLingerZeroResetsTheConnection) {
  Pair pair = connected_pair();
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(STPsetsockopt(pair.client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
  ASSERT_EQ(pair.client.close(), 0);
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(STPerror(pair.server), STP_EABORTED);
}

TEST(Close, OfThePeerEndsSending) {
  Pair pair = connected_pair();
  ASSERT_EQ(pair.server.close(), 0);
  const auto part = pattern(64 * 1024);
  int code = 0;
  while (code == 0)
    if (STPsend(pair.client, part.data(), part.size(), MSG_NOSIGNAL) < 0) code = errno;
  EXPECT_TRUE(code == EPIPE || code == ECONNRESET) << code;
}

TEST(Close, ANonBlockingSocketDoesNotWait) {
  Pair pair = connected_pair();
  (void)fill(pair.client);
  ASSERT_EQ(STPfcntl(pair.client, F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(pair.client.close(), 0);  // the peer has read nothing
}

// Nothing was sent, so nothing is lost by that. At once, and when the failure is known.
TEST(Close, TellsNothingOfAConnectThatFails) {
  for (const bool known : {false, true}) {
    Owned listener = listening_socket();
    const std::uint16_t port = port_of(listener);
    ASSERT_EQ(listener.close(), 0);
    Owned s = open_socket(SOCK_NONBLOCK);
    ASSERT_EQ(connect_to(s, kMyHost, port), -1);
    if (errno == ECONNREFUSED) GTEST_SKIP() << "it is refused in the call itself";
    ASSERT_EQ(errno, EINPROGRESS);
    pollfd p{.fd = s, .events = POLLOUT, .revents = 0};
    if (known) {
      EXPECT_EQ(STPpoll(&p, 1, 10'000), 1);
    }
    int off = 0;
    ASSERT_EQ(STPioctl(s, FIONBIO, &off), 0);
    EXPECT_EQ(s.close(), 0) << known << ' ' << STPstrerror(-1);
  }
}

TEST(Close, WaitsNoLongerThanItsLinger) {
  Pair pair = connected_pair();
  (void)fill(pair.client);
  const linger a_second = {.l_onoff = 1, .l_linger = 1};
  ASSERT_EQ(STPsetsockopt(pair.client, SOL_SOCKET, SO_LINGER, &a_second, sizeof a_second), 0);
  if (shares_rings())
    EXPECT_EQ(pair.client.close(), 0);  // what two programs of one agent send lies in the receiver's memory at once
  else
    EXPECT_FAILS(pair.client.close(), ETIMEDOUT);
}

}  // namespace stp::test
