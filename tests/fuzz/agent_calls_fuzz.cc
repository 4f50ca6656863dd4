// An agent and what unmodified programs ask it (`stp run`), with programs that say what the input says: requests with any fields, messages
// that are none, counters and bytes written into the memory that they share with it, connections that end anywhere.
//
// The agents live as long as this process. After each input they answer others, another program's conversation with the next host goes
// on, and nothing is left of the programs that were there.
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "hostlib/agent.h"
#include "hostlib/agent_client.h"
#include "hostlib/agent_door.h"
#include "hostlib/agent_sockets.h"
#include "hostlib/run_protocol.h"
#include "stp/formatter.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/target.h"
#include "tests/patient_timing.h"
#include "tools/run_server.h"

namespace stp::fuzz {
namespace {

using namespace stp::host;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::uint16_t kWitnessPort = 4000;
constexpr std::uint32_t kMostCalls = 60;
constexpr auto kPatience = 20s;  // sanitizers on a machine that is busy

template <class T>
T expect(Result<T> result, const char* what) {
  if (!result) std::fprintf(stderr, "%s\n", result.error().text.c_str());
  require(result.has_value(), what);
  return std::move(*result);
}

template <class Condition>
bool within(std::chrono::milliseconds span, Condition condition) {
  for (const auto end = std::chrono::steady_clock::now() + span; std::chrono::steady_clock::now() < end; ::usleep(200))
    if (condition()) return true;
  return condition();
}

// A host with its agent, served on a socket of its own.
struct ServedHost {
  std::string door_path;
  std::vector<std::unique_ptr<Agent>> agents;
  std::unique_ptr<AgentDoor> door;
  std::unique_ptr<RunServer> run_server;
  std::thread porter;
};

class World {
 public:
  World() {
    std::signal(SIGPIPE, SIG_IGN);
    folder_ = make_scratch_folder();
    FormatRequest request;
    request.path = folder_ + "/storage";
    request.stg = "fuzz";
    request.size_bytes = 24u << 20;
    request.hosts = 4;
    request.sockets = 256;
    request.medium = MediumKind::kMapped;
    request.block_size = 4096;
    request.timing = "fast";
    // Agents that are fenced, again and again, would leave no conversation to get to its end.
    require(test::give_patient_timing(request.path, expect(format_storage(request), "a storage is made")), "the timings are written");
    for (const char* name : {"alpha", "beta"}) start(name);
    listen_for_witness();
    base_ = load();
  }

  ServedHost& host(std::size_t i) { return hosts_[i % hosts_.size()]; }

  // Somebody else's conversation, and what the agents hold: as if nothing had been. What is given away or listened for by name may stay for
  // some seconds; that is waited for now and then, and with the first input.
  void check() {
    ++checks_;
    if (checks_ % 256 == 1 || load() > base_ + 50) {
      const bool still = within(kPatience, [this] { return load() == base_; });
      if (!still) std::fprintf(stderr, "programs x 1000 + sockets: %llu, and there were %llu\n", static_cast<unsigned long long>(load()), static_cast<unsigned long long>(base_));
      require(still, "nothing is left of programs that are gone");
    }
    if (checks_ % 16 == 1) talk();
  }

 private:
  void start(const char* name) {
    ServedHost host{.door_path = fmt::format("{}/{}.sock", folder_, name), .agents = {}, .door = {}, .run_server = {}, .porter = {}};
    AgentSettings settings;
    settings.host.path = folder_ + "/storage";
    settings.host.name = name;
    settings.ring_bytes = 16 * 1024;
    settings.most_sockets_of_a_user = 100;
    settings.given_for = 2 * kSecond;
    host.agents.push_back(expect(Agent::start(settings), "an agent starts"));
    host.door = expect(AgentDoor::open(host.door_path, 0600), "an agent is served");
    hosts_.push_back(std::move(host));
    ServedHost* const served = &hosts_.back();
    served->porter = std::thread([served] {
      for (;;) served->door->serve(served->agents, -1, 1000, [](std::string_view) {});
    });
    served->porter.detach();
    served->run_server = expect(RunServer::start(*served->agents.front(), {.agent_path = served->door_path, .host = name, .network = {}, .log = {}}, {}), "unmodified programs are served");
  }

  std::uint64_t load() {
    std::uint64_t sum = 0;
    for (ServedHost& host : hosts_) {
      const AgentStats stats = host.agents.front()->stats();
      sum += stats.agent.programs * 1000 + stats.agent.sockets;
    }
    return sum;
  }

  void listen_for_witness() {
    for (ServedHost& host : hosts_) {
      auto link = AgentLink::connect({.agent_path = host.door_path, .stg_path = {}, .host = {}});
      witnesses_.push_back(std::make_unique<AgentSockets>(expect(std::move(link), "an agent takes a program")));
    }
    const auto id = witnesses_[1]->open(0);
    require(id && witnesses_[1]->bind(*id, kWitnessPort) && witnesses_[1]->listen(*id, 8), "a witness listens");
    listener_ = *id;
    // The run servers have come as programs of their own agents by now, or do it a moment later.
    std::uint64_t before = 0;
    (void)within(3s, [&] {
      const std::uint64_t now = load();
      ::usleep(300'000);
      return std::exchange(before, now) == now;
    });
  }

  // An agent that has no processor for long is fenced all the same, and comes back: then it is tried again.
  void talk() {
    if (within(kPatience, [this] { return talk_once(); })) return;
    std::fprintf(stderr, "what did not happen: %s\n", missing_.c_str());
    for (ServedHost& host : hosts_) {
      const auto self = host.agents.front()->view().self;
      std::fprintf(stderr, "%s: state of membership %d, incarnation %llu\n", self.name.c_str(), static_cast<int>(self.state), static_cast<unsigned long long>(self.identity.incarnation));
    }
    require(false, "others connect, and what they say arrives");
  }
  bool talk_once() {
    AgentSockets &here = *witnesses_[0], &there = *witnesses_[1];
    const auto client = here.open(0);
    if (!client) {
      missing_ = fmt::format("a socket (errno {})", client.error().code);
      return false;
    }
    (void)here.connect(*client, {.host = "beta", .stg = {}, .port = kWitnessPort}, false, 0);
    SocketId server = 0;
    const std::string_view said = "what others say to each other";
    std::byte buffer[64];
    std::size_t got = 0;
    missing_ = "a connection is accepted";
    bool good = within(2s, [&] { return (server = accept_from(*client)) != 0; });
    if (good) {
      missing_ = "something can be sent";
      good = within(2s, [&] { return here.send(*client, std::as_bytes(std::span(said)), 0).has_value(); });
    }
    if (good) {
      missing_ = "it arrives";
      good = within(2s, [&] {
        const auto n = there.receive(server, Bytes(buffer).subspan(got), false, 0);
        if (n) got += *n;
        return got >= said.size();
      });
    }
    require(std::ranges::equal(std::as_bytes(std::span(said)).first(std::min(got, said.size())), ConstBytes(buffer).first(got)), "what others say arrives as it was said");
    for (const auto& [sockets, id] : {std::pair(&here, *client), std::pair(&there, server)}) {
      if (id == 0) continue;
      sockets->close(id, !good, 0);
      (void)within(2s, [&, s = sockets, i = id] { return !s->closing(i); });
      sockets->forget(id);
    }
    return good;
  }
  // The programs of the input may have knocked there as well.
  SocketId accept_from(SocketId client) {
    AgentSockets &here = *witnesses_[0], &there = *witnesses_[1];
    const auto accepted = there.accept(listener_, 0);
    if (!accepted) return 0;
    const auto theirs = there.info(*accepted);
    const auto mine = here.info(client);
    if (theirs && mine && theirs->peer.port == mine->local.port && theirs->peer.host == "alpha") return *accepted;
    there.close(*accepted, true, 0);
    there.forget(*accepted);
    return 0;
  }

  std::string folder_;
  std::deque<ServedHost> hosts_;
  std::vector<std::unique_ptr<AgentSockets>> witnesses_;
  SocketId listener_ = 0;
  std::uint64_t base_ = 0;
  std::uint64_t checks_ = 0;
  std::string missing_;  // of the last conversation
  friend void remove_folder();
};

World* world = nullptr;  // until the process ends

void remove_folder() {
  std::error_code ignored;
  fs::remove_all(world->folder_, ignored);
}

void set_patience(int fd) {
  const timeval limit = {.tv_sec = 20, .tv_usec = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  (void)::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

// A program that does not use the library.
class Program {
 public:
  Program(const std::string& path, Input& input) {
    fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    require(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "the door is open");
    set_patience(fd_);
    AgentCall hello;
    hello.what = input.u8() < 230 ? AgentRequest::kHello : static_cast<AgentRequest>(input.u8());
    hello.version = static_cast<std::uint32_t>(input.u8() < 240 ? kAgentProtocolVersion : input.u32());
    if (input.u8() >= 240) put_text(hello.path, input.text(300));
    if (input.u8() >= 240) put_text(hello.host, input.text(100));
    if (parent_token_ != 0 && input.below(4) == 3) {
      hello.flags = AgentCall::kHeir;
      hello.number = static_cast<std::uint32_t>(input.near(parent_serial_));
      hello.token = input.near(parent_token_);
      parent_token_ = 0;
    }
    if (!ask(hello) || answer_.error != 0) return;
    serial_ = answer_.socket;
    life_ = answer_.life;
    greeted_ = true;
    const int board = descriptors_.take(0);
    agents_bell_ = descriptors_.take(2);
    void* const at = ::mmap(nullptr, kNewsBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, board, 0);
    if (at != MAP_FAILED) board_ = static_cast<NewsBoard*>(at);
    (void)::close(board);
  }
  ~Program() {
    if (board_ != nullptr) (void)::munmap(board_, kNewsBoardBytes);
    (void)::close(fd_);
    if (agents_bell_ >= 0) (void)::close(agents_bell_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  bool open() const { return greeted_ && !over_; }

  void call(Input& input) {
    AgentCall call;
    call.what = static_cast<AgentRequest>(1 + input.below(24));
    call.socket = static_cast<std::uint32_t>(input.near(some_socket(input)));
    switch (call.what) {
      case AgentRequest::kBind: call.number = static_cast<std::uint32_t>(input.near(2000 + input.below(4))); break;
      case AgentRequest::kConnect:
        call.number = static_cast<std::uint32_t>(input.near(2000 + input.below(4)));
        put_text(call.host, input.below(8) == 7 ? input.text(100) : input.flag() ? "alpha" : "beta");
        break;
      case AgentRequest::kGive:
      case AgentRequest::kTake:
        call.descriptor = static_cast<std::uint32_t>(input.below(3));
        call.number = static_cast<std::uint32_t>(input.near(input.flag() ? serial_ : 0));
        call.token = input.near(life_);
        if (call.what == AgentRequest::kTake) call.socket = static_cast<std::uint32_t>(input.below(3));
        break;
      case AgentRequest::kRead:
        call.token = input.near(input.below(40));
        call.number = static_cast<std::uint32_t>(input.near(1));
        break;
      default: call.number = static_cast<std::uint32_t>(input.near(input.below(10))); break;
    }
    call.flags = static_cast<std::uint32_t>(input.near(input.below(2)));
    if (!ask(call) || answer_.error != 0) return;
    if (call.what == AgentRequest::kFork) {
      parent_token_ = answer_.bytes;
      parent_serial_ = serial_;
    }
    const bool made = call.what == AgentRequest::kOpen || call.what == AgentRequest::kAccept || call.what == AgentRequest::kTake;
    if (!made) return;
    require(answer_.side <= 1 && answer_.index < kMostSocketsOfAProgram && descriptors_.size() == 1, "an answer with a socket has one");
    auto memory = ShadowMemory::map(descriptors_.at(0), answer_.bytes);
    require(memory.has_value(), "its memory is such");
    sockets_.push_back({answer_.socket, std::move(*memory), static_cast<int>(answer_.side), answer_.index});
  }
  void say_nonsense(Input& input) {
    const ConstBytes bytes = input.take(input.below(700));
    if (bytes.empty() || ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return;
    if (AgentCall call; bytes.size() == sizeof call) {
      std::memcpy(&call, bytes.data(), sizeof call);
      if (!has_answer(call)) return;
    }
    std::vector<std::byte> tail;
    descriptors_.clear();
    const int code = receive_answer(fd_, answer_, descriptors_, tail, 0);
    if (bytes.size() == sizeof(AgentCall)) {
      require(code != EAGAIN, "a request is answered in time, or its program's connection is over");
      if (code == 0) return;
    }
    require(code == EPIPE || code == ECONNRESET, "who says what is no request has its connection ended");
    over_ = true;
  }
  // In memory that it shares with the agent or with another program.
  void meddle(Input& input) {
    if (sockets_.empty()) return;
    Socket& socket = sockets_[input.below(sockets_.size())];
    for (std::uint64_t n = 1 + input.below(6); n > 0; --n) {
      ShadowSide& side = socket.memory->side(input.below(4) == 3 ? 1 - socket.side : socket.side);
      const std::uint64_t value = input.near(input.below(40'000));
      const auto small = static_cast<std::uint32_t>(input.below(16));
      switch (input.below(8)) {
        case 0: side.tail.store(value); break;
        case 1: side.head.store(value); break;
        case 2: side.ended.store(small); break;
        case 3: side.deaf.store(small); break;
        case 4: side.waiting.store(small); break;
        case 5: side.state.store(small); break;
        case 6: side.tail.fetch_add(input.below(2000)); break;
        default: side.head.store(socket.memory->side(1 - socket.side).tail.load()); break;
      }
    }
    ring_the_bell(input, socket.index);
  }
  void ring_the_bell(Input& input, std::uint32_t index) {
    if (board_ == nullptr) return;
    (void)board_->to_agent.set(static_cast<std::uint32_t>(input.near(index)));
    if (input.below(8) == 7) board_->to_agent.groups[input.below(16)].store(input.u64());
    const std::uint64_t one = input.near(1);
    pollfd bell = {.fd = agents_bell_, .events = POLLOUT, .revents = 0};
    if (::poll(&bell, 1, 0) == 1) (void)!::write(agents_bell_, &one, sizeof one);
  }

 private:
  struct Socket {
    std::uint32_t number;
    std::shared_ptr<ShadowMemory> memory;
    int side;
    std::uint32_t index;
  };
  std::uint32_t some_socket(Input& input) { return sockets_.empty() ? 0 : sockets_[input.below(sockets_.size())].number; }
  bool ask(const AgentCall& call) {
    descriptors_.clear();
    std::vector<std::byte> tail;
    int code = send_call(fd_, call, 0);
    if (code == 0 && !has_answer(call)) {
      answer_ = {};
      return true;
    }
    if (code == 0) code = receive_answer(fd_, answer_, descriptors_, tail, 0);
    require(code != EAGAIN, "the agent answers in time");
    if (code == 0) return true;
    require(code == EPIPE || code == ECONNRESET, "what the agent answers is an answer");
    over_ = true;
    return false;
  }

  int fd_ = -1, agents_bell_ = -1;
  bool greeted_ = false, over_ = false;
  std::uint32_t serial_ = 0;
  std::uint64_t life_ = 0;
  NewsBoard* board_ = nullptr;
  AgentAnswer answer_;
  Descriptors descriptors_;
  std::vector<Socket> sockets_;
  static inline std::uint64_t parent_token_ = 0;
  static inline std::uint32_t parent_serial_ = 0;
};

// The preloaded library's requests, or something like them.
void ask_run_server(Input& input, const std::string& door) {
  const run::UnixName name = run::run_server_name(fs::weakly_canonical(door).c_str(), 0);
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  require(::connect(fd, name.get(), name.length) == 0, "unmodified programs are served");
  set_patience(fd);
  run::RunCall call;
  call.version = static_cast<std::uint32_t>(input.u8() < 240 ? run::kRunVersion : input.u32());
  call.what = static_cast<run::RunRequest>(1 + input.below(9));
  call.ip = static_cast<std::uint32_t>(input.near(0xc6120000 + input.below(8)));
  call.port = static_cast<std::uint16_t>(input.near(2000 + input.below(4)));
  call.own_port = static_cast<std::uint16_t>(input.near(0));
  call.backlog = static_cast<std::int32_t>(input.near(5));
  call.flags = static_cast<std::uint32_t>(input.near(input.below(8)));
  call.cookie = input.near(1);
  call.timeout_ms = input.flag() ? static_cast<std::uint32_t>(input.near(50)) : 0;
  const std::string_view text = input.flag() ? "beta.stp" : input.text(256);
  std::ranges::copy(text.substr(0, call.name.size()), call.name.begin());
  const std::size_t bytes = input.u8() < 230 ? sizeof call : 1 + input.below(sizeof call);
  require(::send(fd, &call, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes), "a request can be said");
  run::RunAnswer answer;
  iovec piece = {.iov_base = &answer, .iov_len = sizeof answer};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  require(n == static_cast<ssize_t>(sizeof answer) && answer.version == run::kRunVersion, "a request is answered");
  require(bytes == sizeof call || answer.error == EPROTO, "half a request is none");
  if (const cmsghdr* const head = CMSG_FIRSTHDR(&message); head != nullptr) {
    int got = -1;
    std::memcpy(&got, CMSG_DATA(head), sizeof got);
    (void)::close(got);
  }
  (void)::close(fd);
}

}  // namespace

void run(ConstBytes bytes) {
  if (world == nullptr) {
    world = new World;
    std::atexit([] { remove_folder(); });
  }
  Input input(bytes);
  {
    std::vector<std::unique_ptr<Program>> programs;
    for (std::uint32_t i = 0; i < kMostCalls && !input.empty(); ++i) {
      const std::uint64_t what = input.below(16);
      if (what == 0 || programs.empty()) {
        if (programs.size() < 4) programs.push_back(std::make_unique<Program>(world->host(input.below(4) == 3 ? 1 : 0).door_path, input));
        continue;
      }
      if (what == 1) {
        ask_run_server(input, world->host(0).door_path);
        continue;
      }
      const std::size_t which = input.below(programs.size());
      Program& program = *programs[which];
      if (!program.open() || what == 2) {
        programs.erase(programs.begin() + static_cast<std::ptrdiff_t>(which));
      } else if (what == 3) {
        program.say_nonsense(input);
      } else if (what < 7) {
        program.meddle(input);
      } else {
        program.call(input);
      }
    }
  }
  world->check();
}

}  // namespace stp::fuzz
