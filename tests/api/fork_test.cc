// Sockets that a process shares with the children it forks, through an agent (STP_TEST_AGENT).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/api/fixture.h"
#include "tests/api/taker.h"

namespace stp::test {
namespace {

bool has_no_threads_of_its_parent = false;

// The child's answer: 0 is well.
template <class Job>
pid_t fork_child(Job job) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(60);
  ::_exit(job());
}

int status_of(pid_t child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

// The leak sanitizer would take what the missing threads have for lost.
extern "C" int __lsan_is_turned_off() { return has_no_threads_of_its_parent ? 1 : 0; }

TEST(Fork, TheChildOfAnEmbeddedProgramFailsByNameAndItsExitWaitsForNothing) {
  if (served_by_agent()) GTEST_SKIP() << "with an agent the child goes on";
  const Pair pair = connected_pair();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    has_no_threads_of_its_parent = true;
    char byte = 0;
    int wrong = 0;
    wrong += !(STPsend(pair.client, "x", 1, 0) == -1 && errno == ENOTSUP && STPerror(pair.client) == STP_EFORKED);
    wrong += !(STPrecv(pair.server, &byte, 1, 0) == -1 && errno == ENOTSUP);
    wrong += !(STPsocket(AF_STP, SOCK_STREAM, 0) == -1 && errno == ENOTSUP);
    wrong += !(STPgethostbyname("alpha") == nullptr);
    wrong += !(STPclose(pair.client) == -1 && errno == ENOTSUP);
    wrong += !(std::strstr(STPstrerror(-1), "fork") != nullptr);
    std::exit(wrong);  // runs the exit handlers, and the destructors of statics
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  // The parent goes on as if nothing had been.
  ASSERT_TRUE(send_all(pair.client, pattern(100'000)));
  EXPECT_EQ(receive_exactly(pair.server, 100'000), pattern(100'000));
}

TEST(Fork, ParentAndChildShareWhatWasOpen) {
  NEEDS_AGENT();
  PeerProcess far("beta", "echo");
  const Owned remote = open_socket();
  ASSERT_EQ(connect_to(remote, "beta", announced_port(far)), 0);
  Pair pair = connected_pair();
  ASSERT_TRUE(send_all(pair.client, pattern(5000)));  // lies there at the time
  const pid_t child = fork_child([&] {
    if (!echoes(remote, 100'000)) return 1;
    if (receive_exactly(pair.server, 2000).size() != 2000) return 2;
    return pair.server.close() == 0 && STPclose(remote) == 0 ? 0 : 3;
  });
  ASSERT_EQ(status_of(child), 0);
  // The parent goes on where the child left off.
  const auto all = pattern(5000);
  EXPECT_EQ(receive_exactly(pair.server, 3000), std::vector<std::byte>(all.begin() + 2000, all.end()));
  EXPECT_TRUE(echoes(remote, 100'000));
  EXPECT_TRUE(send_all(pair.server, pattern(100)));
  EXPECT_EQ(receive_exactly(pair.client, 100), pattern(100));
}

TEST(Fork, AConversationEndsWhenBothHaveClosedIt) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  std::array<int, 2> go{};
  ASSERT_EQ(::pipe(go.data()), 0);
  const pid_t child = fork_child([&] {
    char byte = 0;
    (void)!::read(go[0], &byte, 1);
    (void)pair.client.close();
    return send_all(pair.server, pattern(30'000)) && pair.server.close() == 0 ? 0 : 1;
  });
  ASSERT_EQ(pair.server.close(), 0);
  pollfd waits = {pair.client, POLLIN, 0};
  EXPECT_EQ(STPpoll(&waits, 1, 100), 0) << waits.revents;  // the child still has the other end
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  EXPECT_EQ(receive_to_end(pair.client), pattern(30'000));
  EXPECT_EQ(errno, 0);
  EXPECT_EQ(status_of(child), 0);
  ::close(go[0]);
  ::close(go[1]);
}

// The close of the parent comes while the child is on its way to exec, and is what happens in the end.
TEST(Fork, ACloseBesideAChildThatNeverUsesTheSocketIsAGoodClose) {
  NEEDS_AGENT();
  PeerProcess far("beta", "echo");
  const std::uint16_t port = announced_port(far);
  for (int round = 0; round < 20; ++round) {
    Pair pair = connected_pair();
    Owned remote = open_socket();
    ASSERT_EQ(connect_to(remote, "beta", port), 0);
    std::array<int, 2> go{};
    ASSERT_EQ(::pipe(go.data()), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      char byte = 0;
      ::close(go[1]);
      (void)!::read(go[0], &byte, 1);
      if (round % 2 == 0) ::execl("/bin/true", "true", nullptr);
      ::_exit(0);
    }
    ASSERT_TRUE(send_all(pair.server, pattern(20'000)));
    ASSERT_TRUE(echoes(remote, 1000));
    ASSERT_EQ(pair.server.close(), 0);
    ASSERT_EQ(remote.close(), 0);
    ::close(go[1]);
    ::close(go[0]);
    EXPECT_EQ(receive_to_end(pair.client), pattern(20'000)) << round;
    EXPECT_EQ(errno, 0) << round;
    EXPECT_EQ(status_of(child), 0);
  }
}

// A child that got nothing has nothing: what it does hurts nobody.
TEST(Fork, AChildThatClosedAllDescriptorsLeavesTheParentsSocketsAlone) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  ASSERT_TRUE(send_all(pair.client, pattern(5000)));
  const Owned listener = listening_socket();
  const pid_t child = fork_child([&] {
    (void)::close_range(3, ~0u, 0);
    std::array<int, 40> files{};
    for (int& fd : files) fd = ::open("/dev/null", O_RDWR);
    char byte = 0;
    if (STPrecv(pair.server, &byte, 1, MSG_DONTWAIT) != -1) return 1;
    if (STPshutdown(pair.server, SHUT_RDWR) != -1) return 2;
    if (STPaccept(listener, nullptr, nullptr) != -1) return 3;
    (void)pair.server.close();
    (void)pair.client.close();
    const Pair own = connected_pair();
    if (!send_all(own.client, pattern(100)) || receive_exactly(own.server, 100) != pattern(100)) return 4;
    for (const int fd : files)
      if (::fcntl(fd, F_GETFD) < 0) return 5;
    return 0;
  });
  EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(receive_exactly(pair.server, 5000), pattern(5000));
  EXPECT_TRUE(send_all(pair.server, pattern(100)));
  EXPECT_EQ(receive_exactly(pair.client, 100), pattern(100));
  const Owned client = open_socket();
  EXPECT_EQ(connect_to(client, "", port_of(listener)), 0);
}

TEST(Fork, AParentWithoutDescriptorsToSpareGoesOn) {
  NEEDS_AGENT();
  std::vector<Pair> pairs;
  for (int i = 0; i < 20; ++i) pairs.push_back(connected_pair());
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  for (int spare = 0; spare < 6; ++spare) {
    const int next = ::dup(0);
    ::close(next);
    const rlimit tight = {.rlim_cur = static_cast<rlim_t>(next + spare), .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    const pid_t child = fork_child([&] {
      for (Pair& pair : pairs) {
        (void)pair.client.close();
        (void)pair.server.close();
      }
      return 0;
    });
    EXPECT_EQ(status_of(child), 0);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    for (const Pair& pair : pairs) {
      ASSERT_TRUE(send_all(pair.client, pattern(100))) << spare;
      ASSERT_EQ(receive_exactly(pair.server, 100), pattern(100)) << spare;
    }
  }
}

TEST(Fork, ThreadsThatForkAtOnceDoNotDisturbEachOther) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(round % 2 == 0 && STPsend(pair.client, "x", 1, 0) != 1 ? 1 : 0);
        EXPECT_EQ(status_of(child), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(receive_exactly(pair.server, 40).size(), 40u);
  ASSERT_TRUE(within(std::chrono::seconds(5), [&] {
    const stp_clientid me = my_id();
    return STPgivesocket(pair.server, &me) == 0;  // nobody else has it any more
  })) << STPstrerror(pair.server);
}

TEST(Fork, AShutdownOfOneIsSeenByTheOther) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  const pid_t child = fork_child([&] {
    ::poll(nullptr, 0, 100);
    return STPshutdown(pair.server, SHUT_RDWR) == 0 ? 0 : 1;
  });
  const int shown = STPgetpollfd(pair.server, POLLIN);
  pollfd event = {shown, POLLIN, 0};
  EXPECT_EQ(::poll(&event, 1, 5000), 1);
  char byte = 0;
  EXPECT_EQ(STPrecv(pair.server, &byte, 1, 0), 0);
  EXPECT_FAILS(STPsend(pair.server, "x", 1, MSG_NOSIGNAL), EPIPE);
  EXPECT_EQ(status_of(child), 0);
}

// One member of the family is stopped, maybe in the middle of a copy: the others wait for it as they are told, and no longer.
TEST(Fork, AStoppedSiblingHoldsNobodyUpBeyondItsTimeout) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  const timeval limit = {.tv_sec = 0, .tv_usec = 200'000};
  ASSERT_EQ(STPsetsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork_child([&] {
      std::byte part[65536] = {};
      for (;;) {
        (void)STPsend(pair.client, part, sizeof part, MSG_DONTWAIT);
        (void)STPrecv(pair.server, part, sizeof part, MSG_DONTWAIT);
      }
      return 0;
    });
    ::poll(nullptr, 0, 20 + round);
    ::kill(child, SIGSTOP);
    std::byte part[65536] = {};
    for (int i = 0; i < 3; ++i) {
      const auto began = std::chrono::steady_clock::now();
      (void)STPrecv(pair.server, part, sizeof part, 0);
      EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(1)) << round;
    }
    ::kill(child, SIGKILL);
    (void)status_of(child);
  }
}

TEST(Fork, AServerForksForEachConnection) {
  NEEDS_AGENT();
  const Owned listener = listening_socket();
  for (int i = 0; i < 5; ++i) {
    Owned client = open_socket();
    ASSERT_EQ(connect_to(client, "", port_of(listener)), 0);
    Owned server(STPaccept(listener, nullptr, nullptr));
    ASSERT_GE(server.get(), 0);
    const pid_t child = fork_child([&] {
      (void)client.close();
      const auto got = receive_to_end(server);
      return errno == 0 && send_all(server, got) && server.close() == 0 ? 0 : 1;
    });
    ASSERT_EQ(server.close(), 0);
    ASSERT_TRUE(send_all(client, pattern(200'000)));
    ASSERT_EQ(STPshutdown(client, SHUT_WR), 0);
    EXPECT_EQ(receive_to_end(client), pattern(200'000)) << i;
    EXPECT_EQ(errno, 0);
    EXPECT_EQ(status_of(child), 0);
  }
}

// Records of eight bytes, from and to several processes: each arrives whole, and once.
TEST(Fork, ReadersAndWritersOfAFamilyTakeTurns) {
  NEEDS_AGENT();
  constexpr std::uint64_t kEach = 20'000;
  Pair pair = connected_pair();
  struct Tally {
    std::atomic<std::uint64_t> sum, count, bad;
  };
  auto* tally = static_cast<Tally*>(::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(tally, MAP_FAILED);
  const auto write_all = [&](std::uint64_t first) {
    for (std::uint64_t i = first; i < first + kEach; ++i)
      if (STPsend(pair.client, &i, sizeof i, 0) != sizeof i) return 1;
    return pair.client.close() == 0 ? 0 : 2;
  };
  const auto read_all = [&] {
    for (;;) {
      std::uint64_t record = 0;
      const ssize_t got = STPrecv(pair.server, &record, sizeof record, 0);
      if (got == 0) return 0;
      if (got < 0) return 1;
      if (got != sizeof record) ++tally->bad;
      tally->sum += record;
      ++tally->count;
    }
  };
  std::vector<pid_t> children;
  children.push_back(fork_child([&] { return pair.server.close() == 0 ? write_all(0) : 9; }));
  children.push_back(fork_child([&] { return pair.server.close() == 0 ? write_all(kEach) : 9; }));
  children.push_back(fork_child([&] { return pair.client.close() == 0 ? read_all() : 9; }));
  children.push_back(fork_child([&] { return pair.client.close() == 0 ? read_all() : 9; }));
  ASSERT_EQ(pair.client.close(), 0);
  EXPECT_EQ(read_all(), 0);
  for (const pid_t child : children) EXPECT_EQ(status_of(child), 0);
  EXPECT_EQ(tally->bad, 0u);
  EXPECT_EQ(tally->count, 2 * kEach);
  EXPECT_EQ(tally->sum, (2 * kEach) * (2 * kEach - 1) / 2);
  ::munmap(tally, sizeof(Tally));
}

TEST(Fork, AChildThatIsKilledTakesNothingAlong) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  for (int i = 0; i < 10; ++i) {
    const pid_t child = fork_child([&] {
      for (;;) {
        std::uint64_t record = 0;
        (void)STPsend(pair.client, &record, sizeof record, MSG_DONTWAIT);
        (void)STPrecv(pair.server, &record, sizeof record, MSG_DONTWAIT);
      }
      return 0;
    });
    ::poll(nullptr, 0, 20 + 7 * i);
    ::kill(child, SIGKILL);
    EXPECT_EQ(status_of(child), 128 + SIGKILL);
    std::byte part[4096];
    pollfd more{.fd = pair.server, .events = POLLIN, .revents = 0};
    while (STPpoll(&more, 1, shares_rings() ? 0 : 200) == 1) ASSERT_GT(STPrecv(pair.server, part, sizeof part, MSG_DONTWAIT), 0);
    ASSERT_TRUE(send_all(pair.client, pattern(5000))) << i << STPstrerror(-1);
    ASSERT_EQ(receive_exactly(pair.server, 5000), pattern(5000)) << i;
  }
}

TEST(Fork, BothAcceptOnAListener) {
  NEEDS_AGENT();
  const Owned listener = listening_socket(64);
  std::array<int, 2> served{};
  ASSERT_EQ(::pipe(served.data()), 0);
  const auto serve = [&](char name) {
    const Owned s(STPaccept(listener, nullptr, nullptr));
    return s >= 0 && ::write(served[1], &name, 1) == 1 ? 0 : 1;
  };
  const pid_t one = fork_child([&] { return serve('1'); }), two = fork_child([&] { return serve('2'); });
  for (int i = 0; i < 2; ++i) {
    const Owned client = open_socket();
    ASSERT_EQ(connect_to(client, "", port_of(listener)), 0);
    char name = 0;
    ASSERT_EQ(::read(served[0], &name, 1), 1);
  }
  EXPECT_EQ(status_of(one), 0);
  EXPECT_EQ(status_of(two), 0);
  ::close(served[0]);
  ::close(served[1]);
}

TEST(Fork, ADaemonForksTwiceAndKeepsItsSockets) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  const pid_t child = fork_child([&] {
    const pid_t grandchild = fork_child([&] {
      ::poll(nullptr, 0, 50);
      (void)pair.client.close();
      return send_all(pair.server, pattern(1000)) && pair.server.close() == 0 ? 0 : 1;
    });
    return grandchild > 0 ? 0 : 1;
  });
  ASSERT_EQ(status_of(child), 0);
  ASSERT_EQ(pair.server.close(), 0);
  EXPECT_EQ(receive_to_end(pair.client), pattern(1000));
  EXPECT_EQ(errno, 0);
}

TEST(Fork, TheChildMakesPollsAndShowsSocketsOfItsOwn) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  const int shown = STPgetpollfd(pair.server, POLLIN);
  const pid_t child = fork_child([&] {
    Pair own = connected_pair();
    pollfd waits[2] = {{own.server, POLLIN, 0}, {STDIN_FILENO, 0, 0}};
    if (STPpoll(waits, 2, 0) != 0) return 1;
    std::thread sender([&] {
      ::poll(nullptr, 0, 30);
      (void)send_all(own.client, pattern(10));
    });
    const int ready = STPpoll(waits, 2, 5000);
    sender.join();
    if (ready != 1 || receive_exactly(own.server, 10) != pattern(10)) return 2;
    const int here = STPgetpollfd(pair.server, POLLIN);
    pollfd event = {here, POLLIN, 0};
    return ::poll(&event, 1, 5000) == 1 ? 0 : 3;
  });
  ::poll(nullptr, 0, 100);
  ASSERT_TRUE(send_all(pair.client, pattern(10)));
  EXPECT_EQ(status_of(child), 0);
  pollfd event = {shown, POLLIN, 0};
  EXPECT_EQ(::poll(&event, 1, 1000), 1);
  EXPECT_EQ(receive_exactly(pair.server, 10), pattern(10));
}

TEST(Fork, ExecAndProcessesThatNeverUseAnythingHarmNothing) {
  NEEDS_AGENT();
  Pair pair = connected_pair();
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (i % 2 == 0) ::execl("/bin/true", "true", nullptr);
      ::_exit(0);
    }
    EXPECT_EQ(status_of(child), 0);
  }
  EXPECT_TRUE(send_all(pair.client, pattern(1000)));
  EXPECT_EQ(receive_exactly(pair.server, 1000), pattern(1000));
  Taker taker;
  // Those are gone, so the socket is this process's alone again.
  int given = -1;
  for (int tries = 0; tries < 100 && given != 0; ++tries) {
    given = STPgivesocket(pair.server, &taker.id);
    if (given != 0) ::poll(nullptr, 0, 10);
  }
  EXPECT_EQ(given, 0) << STPstrerror(pair.server);
  EXPECT_EQ(taker.take(pair.server), "taken");
}

TEST(Fork, ASharedSocketIsNotGivenAway) {
  NEEDS_AGENT();
  Taker taker;
  Pair pair = connected_pair();
  std::array<int, 2> go{};
  ASSERT_EQ(::pipe(go.data()), 0);
  const pid_t child = fork_child([&] {
    ::close(go[1]);
    char byte = 0;
    return ::read(go[0], &byte, 1) == 0 ? 0 : 1;
  });
  EXPECT_FAILS(STPgivesocket(pair.server, &taker.id), EBUSY);
  EXPECT_EQ(STPerror(pair.server), STP_ESHARED);
  ::close(go[1]);
  EXPECT_EQ(status_of(child), 0);
  ::close(go[0]);
}

}  // namespace stp::test
