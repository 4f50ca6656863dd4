// What only a host with an agent can do, or suffer: its death and return, programs that die or lie, who may use it. Runs with every host
// served (STP_TEST_AGENT=all).
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "hostlib/agent_client.h"
#include "hostlib/agent_protocol.h"
#include "hostlib/news_board.h"
#include "hostlib/shadow.h"
#include "stp/inspect.h"
#include "stp/storage.h"
#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

namespace stp::test {
namespace {

using namespace std::chrono_literals;
using host::AgentAnswer;
using host::AgentCall;
using host::AgentRequest;

std::size_t descriptors_of(pid_t pid) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) ++count;
  return count;
}

std::size_t mappings_of(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("stp-shadow") != std::string::npos;
  return count;
}

// The storage as an agent shows it.
class AgentBlocks final : public BlockSource {
 public:
  explicit AgentBlocks(host::AgentClient& client) : client_(client) {}
  const std::string& path() const override { return path_; }
  const Superblock& superblock() const override { return client_.superblock(); }
  Result<void> read(std::uint64_t block, Bytes into) override { return client_.read(block, into); }
  Holder holder(Slot, const Lease&) override { return Holder::kUnknown; }

 private:
  host::AgentClient& client_;
  std::string path_ = "the agent";
};

// As a program that does not use the library would do it.
class RawProgram {
 public:
  explicit RawProgram(const std::string& path) {
    fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const timeval limit = {.tv_sec = 5, .tv_usec = 0};
    (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~RawProgram() { ::close(fd_); }
  RawProgram(const RawProgram&) = delete;
  RawProgram& operator=(const RawProgram&) = delete;
  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  AgentCall hello() const {
    AgentCall call;
    call.what = AgentRequest::kHello;
    call.version = host::kAgentProtocolVersion;
    return call;
  }
  // The answer's error, or what went wrong on the way.
  int ask(const AgentCall& call) {
    descriptors_.clear();
    if (const int code = host::send_call(fd_, call, 0); code != 0) return code;
    if (!host::has_answer(call)) return 0;
    std::vector<std::byte> tail;
    if (const int code = host::receive_answer(fd_, answer_, descriptors_, tail, 0); code != 0) return code;
    return answer_.error;
  }
  const AgentAnswer& answer() const { return answer_; }
  host::Descriptors& descriptors() { return descriptors_; }

 private:
  int fd_ = -1;
  bool connected_ = false;
  AgentAnswer answer_;
  host::Descriptors descriptors_;
};

// What a child says that could not become somebody else, or may not enter the test's directory then.
constexpr int kNobodyElse = 77;

// For a child: another user, in the directory of that file, which it names by the last part alone, for it may not be let into those above.
std::string as_other_user_beside(const std::string& file) {
  const std::filesystem::path where = file;
  if (::chdir(where.parent_path().c_str()) != 0 || ::setuid(65534) != 0 || ::access(".", X_OK) != 0) ::_exit(kNobodyElse);
  return where.filename();
}

}  // namespace

class Agent : public testing::Test {
  void SetUp() override {
    if (!all_served_by_agents()) GTEST_SKIP() << "needs an agent at every host (STP_TEST_AGENT=all)";
  }
};

TEST_F(Agent, ThatIsKilledEndsConversationsAtOnceAndIsFoundAgain) {
  PeerProcess far("beta", "echo");
  const std::uint16_t port = announced_port(far);
  const Owned listener = listening_socket();
  const std::uint16_t mine = port_of(listener);
  const Owned remote = open_socket();
  ASSERT_EQ(connect_to(remote, "beta", port), 0) << STPstrerror(remote);
  ASSERT_TRUE(echoes(remote));
  Pair local = connected_pair();
  std::thread killer([] {
    ::poll(nullptr, 0, 50);
    kill_agent(kMyHost);
  });
  const auto began = std::chrono::steady_clock::now();
  char byte = 0;
  EXPECT_FAILS(STPrecv(remote, &byte, 1, 0), ECONNRESET);
  EXPECT_EQ(STPerror(remote), STP_EAGENT) << STPstrerror(remote);
  EXPECT_FAILS(STPrecv(local.server, &byte, 1, 0), ECONNRESET);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1s);
  killer.join();
  EXPECT_FAILS(STPsend(remote, "x", 1, MSG_NOSIGNAL), EPIPE);
  // While there is none: an error, at once.
  EXPECT_EQ(STPsocket(AF_STP, SOCK_STREAM, 0), -1);
  EXPECT_EQ(STPerror(-1), STP_EAGENT);
  (void)agent_of(kMyHost);
  // The library comes back by itself, and listens again.
  Owned s;
  ASSERT_TRUE(within(10s, [&] {
    s = Owned(STPsocket(AF_STP, SOCK_STREAM, 0));
    return s >= 0;
  }));
  ASSERT_EQ(connect_to(s, "beta", port), 0) << STPstrerror(s);
  EXPECT_TRUE(echoes(s));
  Owned again = open_socket();
  ASSERT_TRUE(within(5s, [&] { return connect_to(again, "", mine) == 0; })) << STPstrerror(again);
  const Owned served(STPaccept(listener, nullptr, nullptr));
  ASSERT_GE(served.get(), 0) << STPstrerror(listener);
  ASSERT_TRUE(send_all(again, pattern(100)));
  EXPECT_EQ(receive_exactly(served, 100), pattern(100));
}

using AgentSeldomLooks = Agent;

// A connect to a host that seems not to be there is tried again until the leases have been looked at; not so one that was answered.
TEST_F(AgentSeldomLooks, APeerThatAnswersAConnectAndIsKilledGivesAReset) {
  PeerProcess far("beta", "accept-when-told");
  const std::uint16_t port = announced_port(far);
  PeerProcess dialer(kMyHost, "connect-until-accepted", {"beta", std::to_string(port)});
  ASSERT_EQ(dialer.read_line(), "connecting");
  ::poll(nullptr, 0, 60);
  // Both the answer and the death come while it looks at nothing, all within the half second of one look.
  ASSERT_EQ(::kill(dialer.pid(), SIGSTOP), 0);
  far.tell("accept");
  ASSERT_EQ(far.read_line(), "accepted");
  ::poll(nullptr, 0, 60);
  kill_agent("beta");
  ::poll(nullptr, 0, 200);
  ASSERT_EQ(::kill(dialer.pid(), SIGCONT), 0);
  EXPECT_TRUE(dialer.read_line().starts_with(fmt::format("error {} {} ", ECONNRESET, int{STP_EHOSTDEAD})));
}

TEST_F(Agent, ThatIsKilledWhileACloseAsksItIsToldByTheClose) {
  PeerProcess far("beta", "echo");
  Owned remote = open_socket();
  ASSERT_EQ(connect_to(remote, "beta", announced_port(far)), 0) << STPstrerror(remote);
  ASSERT_TRUE(echoes(remote));
  ASSERT_TRUE(halt_agent(kMyHost));
  ASSERT_TRUE(send_all(remote, pattern(100'000)));  // into memory, and no further
  std::thread killer([] {
    ::poll(nullptr, 0, 50);
    kill_agent(kMyHost);
  });
  EXPECT_FAILS(remote.close(), ECONNRESET);
  EXPECT_EQ(STPerror(-1), STP_EAGENT) << STPstrerror(-1);
  killer.join();
  (void)agent_of(kMyHost);
  ASSERT_TRUE(within(10s, [] { return Owned(STPsocket(AF_STP, SOCK_STREAM, 0)) >= 0; }));
}

TEST_F(Agent, ThatIsKilledWakesAPollAndAPollDescriptor) {
  Pair pair = connected_pair();
  const int shown = STPgetpollfd(pair.client, POLLIN);
  ASSERT_GE(shown, 0);
  pollfd quiet = {shown, POLLIN, 0};
  EXPECT_EQ(::poll(&quiet, 1, 0), 0);
  std::thread killer([] {
    ::poll(nullptr, 0, 50);
    kill_agent(kMyHost);
  });
  pollfd waits = {pair.server, POLLIN, 0};
  EXPECT_EQ(STPpoll(&waits, 1, 5000), 1);
  EXPECT_NE(waits.revents & POLLERR, 0);
  EXPECT_EQ(::poll(&quiet, 1, 5000), 1);
  killer.join();
  (void)agent_of(kMyHost);
  ASSERT_TRUE(within(10s, [] { return Owned(STPsocket(AF_STP, SOCK_STREAM, 0)) >= 0; }));
}

TEST_F(Agent, GivesAResetForAProgramOfThisHostThatDiesAfterWhatItSent) {
  const Owned listener = listening_socket();
  PeerProcess near(kMyHost, "connect-send-hold", {kMyHost, std::to_string(port_of(listener)), "5000"});
  const Owned s(STPaccept(listener, nullptr, nullptr));
  ASSERT_GE(s.get(), 0) << STPstrerror(listener);
  ASSERT_EQ(near.read_line(), "sent");
  near.kill();
  EXPECT_EQ(receive_exactly(s, 5000), pattern(5000));
  char byte = 0;
  EXPECT_FAILS(STPrecv(s, &byte, 1, 0), ECONNRESET);
}

TEST_F(Agent, KeepsNothingOfAProgramThatDies) {
  const pid_t agent = agent_pid(kMyHost);
  (void)connected_pair();
  const std::size_t before = descriptors_of(agent), mapped = mappings_of(agent);
  {
    PeerProcess near(kMyHost, "many-sockets", {"300"});
    (void)near.read_line();
    (void)near.read_line();
    EXPECT_GT(mappings_of(agent), mapped + 200);
    near.kill();
  }
  EXPECT_TRUE(within(5s, [&] { return descriptors_of(agent) <= before && mappings_of(agent) <= mapped; }))
      << descriptors_of(agent) << " of " << before << ", " << mappings_of(agent) << " of " << mapped;
}

// A close asks for no answer: many of them lie in the agent's socket when their program is gone.
TEST_F(Agent, WhatAProgramClosedBeforeItDiedComesToAGoodEnd) {
  const std::string count = "60";
  PeerProcess far("beta", "hear-many-out", {count});
  PeerProcess near(kMyHost, "close-many-and-die", {"beta", std::to_string(announced_port(far)), count});
  EXPECT_EQ(near.wait(), 0);
  EXPECT_EQ(far.read_line(), "good " + count);
}

TEST_F(Agent, TenThousandConnectsLeaveNothingBehind) {
  const pid_t agent = agent_pid(kMyHost);
  const Owned listener = listening_socket();
  (void)connected_pair();
  const std::size_t before = descriptors_of(agent), mapped = mappings_of(agent), mine = descriptors_of(::getpid());
  for (int i = 0; i < 10'000; ++i) {
    Owned s = open_socket();
    ASSERT_EQ(connect_to(s, "", port_of(listener)), 0) << i << ' ' << STPstrerror(s);
    Owned t(STPaccept(listener, nullptr, nullptr));
    ASSERT_GE(t.get(), 0) << i;
    if (i % 500 == 0) {
      ASSERT_EQ(STPsend(s, "x", 1, 0), 1);
      char byte = 0;
      ASSERT_EQ(STPrecv(t, &byte, 1, 0), 1);
    }
    ASSERT_EQ(s.close(), 0) << STPstrerror(-1);
    ASSERT_EQ(t.close(), 0) << STPstrerror(-1);
  }
  EXPECT_TRUE(within(5s, [&] { return descriptors_of(agent) <= before && mappings_of(agent) <= mapped; }))
      << descriptors_of(agent) << " of " << before << ", " << mappings_of(agent) << " of " << mapped;
  EXPECT_LE(descriptors_of(::getpid()), mine);
  EXPECT_GE(open_socket().get(), 0);
}

// Memory that is not touched costs nothing; what is filled counts, and goes back when sockets are closed.
// As any other host sees it: on the disk, both ends of a conversation that never goes over it.
TEST_F(Agent, ShowsConversationsBetweenItsOwnProgramsOnTheDisk) {
  const Owned listener = open_socket();
  const sockaddr_stp any = address_of("", 0);
  ASSERT_EQ(STPbind(listener, raw(any), sizeof any), 0);
  const std::uint16_t port = port_of(listener);
  const Owned client = open_socket();
  EXPECT_FAILS(connect_to(client, "", port), ECONNREFUSED);  // too early: what that left behind is not shown later
  ASSERT_EQ(STPlisten(listener, 5), 0);
  ASSERT_EQ(connect_to(client, "", port), 0) << STPstrerror(client);
  const auto shown = [&] {
    std::vector<std::string> ends;
    auto storage = Storage::open(storage_path(), Storage::Access::kReadOnly);
    EXPECT_TRUE(storage);
    auto hosts = observe_hosts(**storage, WatchClock::real(), false);
    EXPECT_TRUE(hosts);
    const auto list = list_sockets(**storage, *hosts, {.host = kMyHost});
    EXPECT_TRUE(list);
    for (const SocketRow& row : list->rows) {
      const Scb& s = row.scb;
      if (s.local_port != port && s.peer_port != port) continue;
      ends.push_back(fmt::format("{}{} {}:{}", to_string(s.state), s.initiator ? " initiator" : "", s.peer_name, s.peer_port == port ? "listener" : s.peer_port == 0 ? "-" : "client"));
    }
    std::ranges::sort(ends);
    return ends;
  };
  using Ends = std::vector<std::string>;
  const std::string host(kMyHost);
  const Ends queued{"ESTAB initiator " + host + ":listener", "LISTEN :-", "QUEUED " + host + ":client"};
  EXPECT_TRUE(within(5s, [&] { return shown() == queued; })) << fmt::format("{}", shown());
  Owned server(STPaccept(listener, nullptr, nullptr));
  ASSERT_GE(server.get(), 0);
  const Ends accepted{"ESTAB " + host + ":client", "ESTAB initiator " + host + ":listener", "LISTEN :-"};
  EXPECT_TRUE(within(5s, [&] { return shown() == accepted; })) << fmt::format("{}", shown());
  ASSERT_EQ(server.close(), 0);
  const Ends half_closed{"CLOSING initiator " + host + ":listener", "LISTEN :-"};
  EXPECT_TRUE(within(5s, [&] { return shown() == half_closed; })) << fmt::format("{}", shown());
}

TEST_F(Agent, HoldsAUserToTheMemoryThatItsSocketsMayTouch) {
  const std::vector<std::byte> block(1 << 20);
  std::vector<Pair> pairs;
  std::size_t filled = 0;
  int code = 0;
  const Owned listener = listening_socket();
  const std::uint16_t port = port_of(listener);
  while (filled < 2 * kMemoryOfAUserMib) {
    Pair pair;
    pair.client = Owned(STPsocket(AF_STP, SOCK_STREAM, 0));
    // Or the other end was the one too many.
    if (pair.client < 0 || connect_to(pair.client, "", port) != 0) {
      code = pair.client < 0 ? errno : ENOBUFS;
      break;
    }
    pair.server = Owned(STPaccept(listener, nullptr, nullptr));
    ASSERT_GE(pair.server.get(), 0) << STPstrerror(-1);
    ASSERT_EQ(STPsend(pair.client, block.data(), block.size(), MSG_DONTWAIT), static_cast<ssize_t>(block.size()));
    pairs.push_back(std::move(pair));
    // It is measured once a second.
    if (++filled == kMemoryOfAUserMib + 2) ::poll(nullptr, 0, 1100);
  }
  EXPECT_EQ(code, ENOBUFS);
  EXPECT_EQ(STPerror(-1), STP_ENOMEMORY) << STPstrerror(-1);
  EXPECT_GE(filled, kMemoryOfAUserMib);
  pairs.clear();
  EXPECT_TRUE(within(5s, [] { return Owned(STPsocket(AF_STP, SOCK_STREAM, 0)) >= 0; }));
}

TEST_F(Agent, AnswersNonsenseWithErrorsAndServesOthersOn) {
  Pair pair = connected_pair();
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    RawProgram hostile(agent_of(kMyHost));
    ASSERT_TRUE(hostile.connected());
    if (round % 4 == 0) {  // not even a hello
      std::vector<std::byte> junk(random() % 600);
      for (std::byte& each : junk) each = static_cast<std::byte>(random());
      (void)::send(hostile.fd(), junk.data(), junk.size(), MSG_NOSIGNAL);
      continue;
    }
    ASSERT_EQ(hostile.ask(hostile.hello()), 0);
    const std::uint64_t life = hostile.answer().life;
    for (int i = 0; i < 50; ++i) {
      AgentCall call;
      call.what = static_cast<AgentRequest>(random() % 21);
      call.socket = static_cast<std::uint32_t>(random() % 100);
      call.number = static_cast<std::uint32_t>(random() % 3 == 0 ? random() : random() % 70000);
      call.flags = static_cast<std::uint32_t>(random() % 4);
      call.token = random() % 2 == 0 ? life : random();
      call.descriptor = static_cast<std::uint32_t>(random() % 10);
      for (char& c : call.host) c = static_cast<char>(random() % 3 == 0 ? random() : 'a');
      const int code = hostile.ask(call);
      if (code == EPIPE) break;
    }
    const char half[10] = {};
    (void)::send(hostile.fd(), half, sizeof half, MSG_NOSIGNAL);
  }
  ASSERT_TRUE(send_all(pair.client, pattern(5000)));
  EXPECT_EQ(receive_exactly(pair.server, 5000), pattern(5000));
  EXPECT_EQ(open_socket().close(), 0);
}

TEST_F(Agent, AProgramThatLiesInSharedMemoryHurtsItsOwnSocketsOnly) {
  PeerProcess far("beta", "echo");
  const std::uint16_t port = announced_port(far);
  const Owned other = open_socket();
  ASSERT_EQ(connect_to(other, "beta", port), 0);
  std::mt19937_64 random(13);
  for (int round = 0; round < 40; ++round) {
    RawProgram hostile(agent_of(kMyHost));
    ASSERT_TRUE(hostile.connected());
    ASSERT_EQ(hostile.ask(hostile.hello()), 0);
    const int board_fd = hostile.descriptors().take(0), bell = hostile.descriptors().take(2);
    auto* board = static_cast<host::NewsBoard*>(::mmap(nullptr, host::kNewsBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, board_fd, 0));
    AgentCall call;
    call.what = AgentRequest::kOpen;
    ASSERT_EQ(hostile.ask(call), 0);
    const auto memory = host::ShadowMemory::map(hostile.descriptors().at(0), hostile.answer().bytes);
    ASSERT_TRUE(memory);
    call.what = AgentRequest::kConnect;
    call.socket = hostile.answer().socket;
    call.number = port;
    host::put_text(call.host, "beta");
    ASSERT_EQ(hostile.ask(call), 0);
    host::ShadowSide& mine = (*memory)->side(0);
    ASSERT_TRUE(within(5s, [&] { return (mine.state.load() & host::ShadowSide::kConnected) != 0; }));
    for (int i = 0; i < 200; ++i) {
      host::ShadowSide& side = (*memory)->side(static_cast<int>(random() % 2));
      side.tail.store(random() % 3 == 0 ? random() : random() % (2u << 20));
      side.head.store(random() % 3 == 0 ? random() : random() % (2u << 20));
      if (random() % 10 == 0) side.ended.store(static_cast<std::uint32_t>(random() % 4));
      side.waiting.store(static_cast<std::uint32_t>(random() % 4));
      for (std::uint32_t index : {0u, static_cast<std::uint32_t>(random() % 65536)}) (void)board->to_agent.set(index);
      const std::uint64_t one = 1;
      (void)!::write(bell, &one, sizeof one);
    }
    ::munmap(board, host::kNewsBoardBytes);
    ::close(board_fd);
    ::close(bell);
    EXPECT_TRUE(echoes(other)) << round;
  }
}

TEST_F(Agent, IsNotHeldUpByAProgramThatMakesItsBellsBlock) {
  RawProgram hostile(agent_of(kMyHost));
  ASSERT_EQ(hostile.ask(hostile.hello()), 0);
  for (std::size_t i = 1; i < 3; ++i) {
    const int bell = hostile.descriptors().at(i);
    ASSERT_EQ(::fcntl(bell, F_SETFL, 0), 0);
    const std::uint64_t most = 0xfffffffffffffffe;
    (void)!::write(bell, &most, sizeof most);
  }
  AgentCall call;
  call.what = AgentRequest::kView;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(hostile.ask(call), 0);
    EXPECT_EQ(open_socket().close(), 0);
  }
}

TEST_F(Agent, KeepsNothingOfASocketThatFoundItsPeerReset) {
  const pid_t agent = agent_pid(kMyHost);
  (void)connected_pair();
  const std::size_t mapped = mappings_of(agent), mine = mappings_of(::getpid());
  for (int i = 0; i < 20; ++i) {
    Pair pair = connected_pair();
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    ASSERT_EQ(STPsetsockopt(pair.server, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    ASSERT_EQ(pair.server.close(), 0);
    char byte = 0;
    EXPECT_FAILS(STPrecv(pair.client, &byte, 1, 0), ECONNRESET);
    (void)pair.client.close();
  }
  EXPECT_TRUE(within(5s, [&] { return mappings_of(agent) <= mapped; })) << mappings_of(agent) << " of " << mapped;
  EXPECT_LE(mappings_of(::getpid()), mine);
}

TEST_F(Agent, AConnectThatWaitsForTheAcceptEndsWithItsListener) {
  Owned listener = listening_socket();
  Owned s = open_socket();
  const int on = 1;
  ASSERT_EQ(STPsetopt(s, STP_OPT_CONNECT_WAITS_ACCEPT, const_cast<int*>(&on), sizeof on), 0);
  const std::uint16_t port = port_of(listener);
  std::thread closer([&] {
    ::poll(nullptr, 0, 50);
    EXPECT_EQ(listener.close(), 0);
  });
  EXPECT_FAILS(connect_to(s, "", port), ECONNREFUSED);
  closer.join();
}

TEST_F(Agent, AConnectMayBeTriedAgainHoweverItFailedBefore) {
  PeerProcess far("beta", "echo");
  const std::uint16_t port = announced_port(far);
  const Owned s = open_socket();
  EXPECT_FAILS(connect_to(s, "beta", 9), ECONNREFUSED);         // refused over there
  EXPECT_FAILS(connect_to(s, "nobody-here", 9), EHOSTUNREACH);  // at once
  EXPECT_FAILS(connect_to(s, "", 9), ECONNREFUSED);
  ASSERT_EQ(connect_to(s, "beta", port), 0) << STPstrerror(s);
  EXPECT_TRUE(echoes(s));
  EXPECT_FAILS(connect_to(s, "beta", port), EISCONN);
}

TEST_F(Agent, ManyShortLivedProgramsAreNotTakenForEachOther) {
  for (int i = 0; i < 200; ++i) {
    RawProgram program(agent_of(kMyHost));
    ASSERT_TRUE(program.connected());
    ASSERT_EQ(program.ask(program.hello()), 0) << i;
    AgentCall call;
    call.what = AgentRequest::kOpen;
    ASSERT_EQ(program.ask(call), 0) << i;
  }
}

TEST_F(Agent, KeepsPortsBelow1024ForRoot) {
  if (::getuid() != 0) GTEST_SKIP() << "needs root, to be somebody else";
  (void)::chmod(agent_of(kMyHost).c_str(), 0666);
  const std::string path = agent_of(kMyHost);
  const auto bind_as = [&](bool other, std::uint32_t port) {
    const pid_t child = ::fork();
    if (child == 0) {
      RawProgram program(other ? as_other_user_beside(path) : path);
      AgentCall call = program.hello();
      if (program.ask(call) != 0) ::_exit(201);
      call.what = AgentRequest::kOpen;
      if (program.ask(call) != 0) ::_exit(202);
      call.what = AgentRequest::kBind;
      call.socket = program.answer().socket;
      call.number = port;
      ::_exit(program.ask(call));
    }
    int status = 0;
    (void)::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(bind_as(false, 80), 0);
  const int low = bind_as(true, 80);
  if (low == kNobodyElse) GTEST_SKIP() << "another user may not enter the test's directory";
  EXPECT_EQ(low, EACCES);
  EXPECT_EQ(bind_as(true, 8080), 0);
}

TEST_F(Agent, ServesOnlyItsStorageAndItsName) {
  RawProgram other_storage(agent_of(kMyHost));
  AgentCall call = other_storage.hello();
  host::put_text(call.path, "/no/such/storage");
  EXPECT_EQ(other_storage.ask(call), ENOENT);
  RawProgram other_name(agent_of(kMyHost));
  call = other_name.hello();
  host::put_text(call.host, "omega");
  EXPECT_EQ(other_name.ask(call), ENOENT);
  RawProgram by_group(agent_of(kMyHost));
  call = by_group.hello();
  host::put_text(call.path, "apitest");
  EXPECT_EQ(by_group.ask(call), 0);
  RawProgram other_version(agent_of(kMyHost));
  call = other_version.hello();
  call.version = 999;
  EXPECT_EQ(other_version.ask(call), EPROTONOSUPPORT);
}

// Blocks that describe are read for anybody, those that hold what others say for nobody; of other users' sockets no process is told.
TEST_F(Agent, ReadsWhatDescribesTheStorageForWhoeverLooks) {
  const Owned listener = listening_socket();
  const std::uint16_t port = port_of(listener);
  const std::string path = agent_of(kMyHost);
  const auto look = [&](host::AgentClient& client) {
    AgentBlocks blocks(client);
    const auto hosts = observe_hosts(blocks, WatchClock::real(), false);
    EXPECT_TRUE(hosts) << hosts.error().text;
    std::vector<HostReport> mine;
    for (const HostReport& host : *hosts)
      if (host.lease.name == kMyHost) mine.push_back(host);
    const auto list = list_sockets(blocks, mine, {.host = {}, .dead_too = true});
    EXPECT_TRUE(list) << list.error().text;
    for (const SocketRow& row : list->rows)
      if (row.scb.local_port == port && row.scb.state == ScbState::kListening) return row.scb.pid == 0 ? 1 : 2;
    return 0;
  };
  auto client = host::AgentClient::connect(path, "");
  ASSERT_TRUE(client) << client.error().text;
  EXPECT_TRUE(within(5s, [&] { return look(*client) == 2; }));
  const Geometry& g = client->superblock().geometry;
  std::vector<std::byte> block(g.block_size);
  for (const std::uint64_t forbidden : {g.ring(0, 1), g.extent(0, 0), g.total_blocks, g.area_first - 1}) {
    const auto read = client->read(forbidden, block);
    ASSERT_FALSE(read) << forbidden;
    EXPECT_EQ(read.error().code, EINVAL);
  }
  EXPECT_TRUE(client->read(0, block));
  if (::getuid() != 0) return;
  (void)::chmod(path.c_str(), 0666);
  const pid_t child = ::fork();
  if (child == 0) {
    auto other = host::AgentClient::connect(as_other_user_beside(path), "");
    ::_exit(other ? look(*other) : 201);
  }
  int status = 0;
  (void)::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == kNobodyElse) GTEST_SKIP() << "another user may not enter the test's directory";
  EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST_F(Agent, OneReadAtATimeOfAProgramAndTheNextOnesAreServedToo) {
  RawProgram program(agent_of(kMyHost));
  ASSERT_EQ(program.ask(program.hello()), 0);
  AgentCall call;
  call.what = AgentRequest::kRead;
  call.number = 1;
  for (int i = 0; i < 50; ++i) ASSERT_EQ(host::send_call(program.fd(), call, 0), 0);
  int well = 0, busy = 0;
  for (int i = 0; i < 50; ++i) {
    AgentAnswer answer;
    host::Descriptors none;
    std::vector<std::byte> tail;
    ASSERT_EQ(host::receive_answer(program.fd(), answer, none, tail, 0), 0);
    (answer.error == 0 ? well : busy)++;
    EXPECT_TRUE(answer.error == 0 || answer.error == EBUSY);
  }
  EXPECT_GE(well, 1);
  EXPECT_EQ(program.ask(call), 0);
  call.number = 0;
  EXPECT_EQ(program.ask(call), EINVAL);
  call.number = 0xffffffff;
  EXPECT_EQ(program.ask(call), EINVAL);
}

TEST_F(Agent, ProgramsNeedNoAccessToTheStorage) {
  PeerProcess near(kMyHost, "echo", {}, {{"STP_STG", ""}});
  const std::uint16_t port = announced_port(near);
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "", port), 0) << STPstrerror(s);
  EXPECT_TRUE(echoes(s, 500'000));
}

}  // namespace stp::test
