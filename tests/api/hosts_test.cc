// Two programs, two hosts, one storage.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <sstream>
#include <thread>

#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

namespace stp::test {
namespace {

struct Announced {
  std::uint16_t port = 0;
  std::string name;
};

Announced announcement(PeerProcess& peer) {
  std::istringstream line(peer.read_line());
  std::string word;
  Announced out;
  line >> word >> out.port >> out.name;
  EXPECT_EQ(word, "port") << line.str();
  return out;
}

}  // namespace

// Everything was read: that the reader is gone right afterwards is no loss.
TEST(Hosts, CloseIsContentWithAPeerThatReadToTheEndAndEndedAtOnce) {
  for (int round = 0; round < 4; ++round) {
    PeerProcess far("beta", "hear-out-and-die");
    Owned s = open_socket();
    ASSERT_EQ(connect_to(s, "beta", announced_port(far)), 0) << STPstrerror(s);
    ASSERT_TRUE(send_all(s, pattern(1000)));
    EXPECT_EQ(STPclose(s.release()), 0) << "round " << round << ": " << STPstrerror(-1);
    EXPECT_EQ(far.wait(), 0);
  }
}

// Quiet on this side, and nothing left to read: that the peer's program is gone is told all the same.
TEST(Hosts, TellThatAPeerIsGoneWhichHadEndedWhatItSends) {
  for (const bool deaf : {false, true}) {
    PeerProcess peer("beta", "end-and-hold");
    Owned s = open_socket();
    ASSERT_EQ(connect_to(s, "beta", announced_port(peer)), 0) << STPstrerror(s);
    EXPECT_EQ(peer.read_line(), "ended");
    char byte;
    ASSERT_EQ(STPrecv(s, &byte, 1, 0), 0);
    if (deaf) {
      ASSERT_EQ(STPshutdown(s, SHUT_RD), 0);
    }
    pollfd p{.fd = s, .events = 0, .revents = 0};
    EXPECT_EQ(STPpoll(&p, 1, 50), 0) << p.revents;
    peer.kill();
    EXPECT_EQ(STPpoll(&p, 1, 10'000), 1);
    EXPECT_EQ(p.revents, POLLERR | POLLHUP);
    int error = 0;
    socklen_t length = sizeof error;
    ASSERT_EQ(STPgetsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    EXPECT_EQ(error, ECONNRESET);
  }
}

// What was sent had arrived, whatever befell the connection then.
TEST(Hosts, CloseIsContentAfterAResetThatNobodyAskedFor) {
  PeerProcess peer("beta", "end-and-hold");
  Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", announced_port(peer)), 0) << STPstrerror(s);
  ASSERT_EQ(STPsend(s, "unread", 6, 0), 6);
  EXPECT_EQ(peer.read_line(), "ended");
  char byte;
  ASSERT_EQ(STPrecv(s, &byte, 1, 0), 0);
  int unacknowledged = 1;
  for (int i = 0; i < 1000 && unacknowledged != 0; ++i, ::usleep(1000)) ASSERT_EQ(STPioctl(s, SIOCOUTQ, &unacknowledged), 0);
  ASSERT_EQ(unacknowledged, 0);
  peer.kill();
  pollfd p{.fd = s, .events = 0, .revents = 0};
  EXPECT_EQ(STPpoll(&p, 1, 10'000), 1);
  EXPECT_EQ(s.close(), 0) << STPstrerror(-1);
}

TEST(Hosts, ExchangeDataAndSeeEachOthersEnd) {
  PeerProcess peer("beta", "echo");
  const Announced there = announcement(peer);
  EXPECT_EQ(there.name, "beta");
  Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", there.port), 0) << STPstrerror(s);
  const auto data = pattern(3 << 20);
  std::thread sender([&] {
    EXPECT_TRUE(send_all(s, data)) << STPstrerror(s);
    EXPECT_EQ(STPshutdown(s, SHUT_WR), 0);
  });
  EXPECT_EQ(receive_to_end(s), data);
  EXPECT_EQ(errno, 0);
  sender.join();
  EXPECT_EQ(s.close(), 0);
  const hostent* found = STPgethostbyname("beta");
  ASSERT_NE(found, nullptr);
  peer.tell("end");
  EXPECT_EQ(peer.wait(), 0);
}

TEST(Hosts, ManySmallExchangesKeepTheirOrder) {
  PeerProcess peer("beta", "echo");
  const Announced there = announcement(peer);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", there.port), 0) << STPstrerror(s);
  for (std::uint64_t round = 0; round < 500; ++round) {
    const auto data = pattern(64, round);
    ASSERT_TRUE(send_all(s, data));
    ASSERT_EQ(receive_exactly(s, data.size()), data) << round;
  }
}

TEST(Hosts, ABusyLoopOfNonBlockingCallsGetsItsDataToo) {
  PeerProcess peer("beta", "echo");
  const Announced there = announcement(peer);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", there.port), 0) << STPstrerror(s);
  const auto data = pattern(300 * 1024);
  for (int round = 0; round < 3; ++round) {
    std::thread sender([&] { EXPECT_TRUE(send_all(s, data)); });
    sender.join();  // from here on this thread alone makes calls, and none of them waits
    std::vector<std::byte> in(data.size());
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    std::size_t got = 0;
    while (got < in.size() && std::chrono::steady_clock::now() < end) {
      const ssize_t n = STPrecv(s, in.data() + got, in.size() - got, MSG_DONTWAIT);
      if (n > 0) got += static_cast<std::size_t>(n);
      if (n < 0) {
        ASSERT_EQ(errno, EAGAIN) << STPstrerror(s);
      }
    }
    ASSERT_EQ(got, in.size());
    EXPECT_EQ(in, data);
  }
}

TEST(Exit, DeliversWhatWasSentBeforeMainReturned) {
  for (const char* role : {"send-and-exit", "send-nonblocking-close-and-exit"}) {
    const Owned listener = listening_socket();
    PeerProcess peer("beta", role, {kMyHost, std::to_string(port_of(listener)), std::to_string(1 << 20)});
    const Owned s(STPaccept(listener, nullptr, nullptr));
    ASSERT_GE(s.get(), 0);
    EXPECT_EQ(receive_to_end(s), pattern(1 << 20)) << role;
    EXPECT_EQ(errno, 0) << "the end of file, not an error";
    EXPECT_EQ(peer.wait(), 0) << peer.read_line();
  }
}

TEST(Exit, WithAThreadBlockedInACallIsClean) {
  PeerProcess peer("beta", "exit-with-blocked-thread");
  (void)announcement(peer);
  peer.tell("end");
  EXPECT_EQ(peer.wait(), 0);
}

TEST(Exit, ResetsNobodyWhoHasReadEverything) {
  PeerProcess peer("beta", "hold");
  const Announced there = announcement(peer);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", there.port), 0) << STPstrerror(s);
  EXPECT_EQ(peer.read_line(), "accepted");
  peer.tell("end");
  EXPECT_TRUE(receive_to_end(s).empty());
  EXPECT_EQ(errno, 0);
  EXPECT_EQ(peer.wait(), 0);
}

TEST(Death, OfThePeerResetsItsConnectionsAndIsSaidInWords) {
  PeerProcess peer("delta", "hold");
  const Announced there = announcement(peer);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "delta", there.port), 0) << STPstrerror(s);
  EXPECT_EQ(peer.read_line(), "accepted");
  peer.kill();
  char byte = 0;
  EXPECT_FAILS(STPrecv(s, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(STPerror(s), all_served_by_agents() ? STP_EABORTED : STP_EHOSTDEAD);  // the host goes on when its program dies
  EXPECT_NE(std::string(STPstrerror(s)).find("delta"), std::string::npos) << STPstrerror(s);
  const Owned next = open_socket();
  EXPECT_FAILS(connect_to(next, "delta", there.port), all_served_by_agents() ? ECONNREFUSED : EHOSTDOWN);
  EXPECT_EQ(STPerror(next), all_served_by_agents() ? STP_ENOLISTENER : STP_EHOSTDEAD);
}

TEST(Death, OfThePeerWhileACloseLingersIsToldByTheClose) {
  PeerProcess peer("delta", "hold");
  const Announced there = announcement(peer);
  Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "delta", there.port), 0) << STPstrerror(s);
  EXPECT_EQ(peer.read_line(), "accepted");
  EXPECT_GT(fill(s), 0U);  // more than the peer's host takes unread
  peer.kill();
  EXPECT_FAILS(s.close(), ECONNRESET);
}

TEST(Death, IsFollowedByARestartUnderTheSameName) {
  {
    PeerProcess first("beta", "echo");
    (void)announcement(first);
    first.kill();
  }
  PeerProcess second("beta", "echo");
  const Announced there = announcement(second);
  EXPECT_EQ(there.name, "beta");  // although the kernel may hold the lock until the first one's I/O has ended
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", there.port), 0) << STPstrerror(s);
  ASSERT_TRUE(send_all(s, pattern(1000)));
  EXPECT_EQ(receive_exactly(s, 1000), pattern(1000));
}

TEST(Programs, OfOneHostStandSideBySideAndAreFoundByPort) {
  PeerProcess first("gamma", "echo");
  const Announced one = announcement(first);
  PeerProcess second("gamma", "echo");
  const Announced two = announcement(second);
  EXPECT_EQ(one.name, "gamma");
  EXPECT_EQ(two.name, all_served_by_agents() ? "gamma" : "gamma~2");
  for (const Announced& there : {one, two}) {
    const Owned s = open_socket();
    ASSERT_EQ(connect_to(s, there.name, there.port), 0) << STPstrerror(s);
    ASSERT_TRUE(send_all(s, pattern(100)));
    EXPECT_EQ(receive_exactly(s, 100), pattern(100));
  }
  if (one.port != two.port) {
    const Owned s = open_socket();
    ASSERT_EQ(connect_to(s, "gamma", two.port), 0) << STPstrerror(s);
  }
}

TEST(Joining, WithoutAStorageSaysWhatToSet) {
  PeerProcess peer("beta", "only-socket", {}, {{"STP_STG", ""}, {"STP_AGENT", "none"}});
  const std::string line = peer.read_line();
  std::istringstream words(line);
  std::string error;
  int code = 0, reason = 0;
  words >> error >> code >> reason;
  EXPECT_EQ(code, ENETDOWN) << line;
  EXPECT_EQ(reason, STP_ENOTJOINED);
  EXPECT_NE(line.find("STP_STG"), std::string::npos) << line;
}

TEST(Joining, UnderAnImpossibleNameSaysSo) {
  PeerProcess peer("no_such name", "only-socket");
  const std::string line = peer.read_line();
  EXPECT_NE(line.find("STP_HOST"), std::string::npos) << line;
  EXPECT_NE(line.find("no_such name"), std::string::npos) << line;
}

TEST(Joining, AFileThatIsNoStorageSaysSo) {
  PeerProcess peer("beta", "only-socket", {}, {{"STP_STG", "/proc/self/exe"}});
  const std::string line = peer.read_line();
  EXPECT_EQ(line.rfind("error ", 0), 0u) << line;
  EXPECT_NE(line.find("/proc/self/exe"), std::string::npos) << line;
}

TEST(Descriptors, MayBeMoreThanAThousand) {
  PeerProcess peer("beta", "many-sockets", {"1500"});
  std::string line = peer.read_line();
  if (line == "limit") GTEST_SKIP() << "this process may not have 1500 descriptors";
  line = peer.read_line();  // after its announcement
  EXPECT_EQ(line.rfind("works at 15", 0), 0u) << line;
  EXPECT_EQ(peer.wait(), 0);
}

TEST(Descriptors, RunningOutIsEmfile) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer needs descriptors of its own";
  PeerProcess peer("beta", "no-descriptors");
  const std::string line = peer.read_line();
  EXPECT_EQ(line.rfind("error " + std::to_string(EMFILE), 0), 0u) << line;
}

}  // namespace stp::test
