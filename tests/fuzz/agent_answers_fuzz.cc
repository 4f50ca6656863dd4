// What a program's library makes of an agent that answers what the input says: wrong lengths, wrong descriptors, memory that is none or that
// changes under its hands, lists that lie.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "hostlib/agent_client.h"
#include "hostlib/agent_sockets.h"
#include "hostlib/host_list.h"
#include "hostlib/run_protocol.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/target.h"
#include "tests/unit/golden.h"

namespace stp::fuzz {
namespace {

using namespace stp::host;
namespace fs = std::filesystem;

constexpr unsigned kPatienceMs = 20'000;
constexpr std::size_t kMostAnswers = 64;

int memory_file(std::size_t size, int seals) {
  const int fd = ::memfd_create("stp-fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  (void)::ftruncate(fd, static_cast<off_t>(size));
  (void)::fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

// The other side, on a thread of its own: takes a request, answers as the input says, and ends the connection when that is out of words.
class Liar {
 public:
  Liar() {
    std::signal(SIGPIPE, SIG_IGN);
    folder_ = make_scratch_folder();
    path_ = folder_ + "/agent.sock";
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    require(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(listener_, 8) == 0, "somebody can listen");
    std::thread([this] { serve(); }).detach();
  }
  void remove() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  const std::string& path() const { return path_; }

  // For the connections that come, until wait_until_idle().
  void begin(ConstBytes script) {
    std::lock_guard lock(mutex_);
    script_ = Input(script);
    memories_.clear();
    left_ = kMostAnswers;
  }
  void wait_until_idle() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return connections_ == 0; });
  }
  // While nobody asks: the program is between two calls.
  template <class Use>
  void with_memories(Use use) {
    std::lock_guard lock(mutex_);
    use(memories_);
  }
  // A program is about to connect.
  void expect_one() {
    std::lock_guard lock(mutex_);
    ++connections_;
  }

 private:
  void serve() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      require(fd >= 0, "a program can be let in");
      AgentCall call;
      while (receive_call(fd, call, 0) == 0 && answer(fd, call)) {
      }
      (void)::close(fd);
      std::lock_guard lock(mutex_);
      --connections_;
      idle_.notify_all();
    }
  }

  void add_welcome(std::vector<int>& fds, std::vector<std::byte>& tail) {
    const std::uint8_t how = script_.u8();
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    if (how != 250) fds.push_back(how < 230 ? memory_file(kNewsBoardBytes, seals) : how < 240 ? memory_file(kNewsBoardBytes - 1, seals) : memory_file(kNewsBoardBytes, 0));
    int bells[2] = {-1, -1};
    (void)::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bells);
    fds.push_back(bells[1]);
    (void)::close(bells[0]);
    fds.push_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    tail.resize(kMinBlockSize);
    encode_superblock(tail, golden::superblock(), 0);
    if (how >= 200) script_.patch(tail);
  }
  void add_socket(AgentAnswer& answer, std::vector<int>& fds) {
    const std::uint8_t how = script_.u8();
    if (how < 220) {
      auto memory = ShadowMemory::create(4096);
      require(memory.has_value(), "there is memory");
      fds.push_back(::fcntl((*memory)->fd(), F_DUPFD_CLOEXEC, 0));
      answer.bytes = script_.near((*memory)->header_at());
      if (how < 200) {
        memories_.push_back(std::move(*memory));
        memories_.back()->side(0).state.store(ShadowSide::kConnected);
        memories_.back()->side(1).state.store(ShadowSide::kConnected);
        memories_.back()->side(0).queued.store(3);
      }
    } else if (how < 240) {
      fds.push_back(memory_file(script_.u16(), script_.u8() & 15));
    }
  }
  void fill_tail(const AgentCall& call, AgentAnswer& answer, std::vector<std::byte>& tail) {
    switch (call.what) {
      case AgentRequest::kView: {
        MembershipBoard::View view;
        view.self.name = "alpha";
        view.peers = {{.state = PeerState::kAlive, .identity = {}, .name = "beta"}};
        tail = encode_hosts(view, kMostTail);
        break;
      }
      case AgentRequest::kStats: tail.resize(sizeof(AgentStats)); break;
      case AgentRequest::kSockets:
        tail.resize(script_.below(4) * sizeof(AgentSocketRow));
        answer.socket = static_cast<std::uint32_t>(script_.near(0));
        break;
      case AgentRequest::kRead: tail.resize(std::min<std::size_t>(call.number, 8) * kMinBlockSize); break;
      default: return;
    }
    script_.patch(tail);
  }

  bool answer(int fd, const AgentCall& call) {
    std::lock_guard lock(mutex_);
    if (left_ == 0 || (script_.empty() && call.what != AgentRequest::kHello)) return false;
    --left_;
    AgentAnswer answer;
    std::vector<int> fds;
    std::vector<std::byte> tail;
    const std::uint8_t how = script_.u8();
    answer.error = how < 220 ? 0 : static_cast<std::int32_t>(script_.near(EAGAIN));
    answer.socket = static_cast<std::uint32_t>(1 + left_);
    answer.index = static_cast<std::uint32_t>(script_.near(left_));
    answer.side = static_cast<std::uint32_t>(script_.near(script_.below(2)));
    answer.port = static_cast<std::uint32_t>(script_.near(80));
    answer.peer_port = static_cast<std::uint32_t>(script_.near(4000));
    answer.kind = static_cast<std::uint32_t>(script_.near(script_.below(3)));
    answer.local = static_cast<std::uint32_t>(script_.below(2));
    answer.life = 1;
    const std::string_view name = script_.below(4) == 3 ? script_.text(96) : "alpha";
    std::ranges::copy(name, answer.host.begin());  // not always terminated
    if (call.what == AgentRequest::kHello) add_welcome(fds, tail);
    if (call.what == AgentRequest::kOpen || call.what == AgentRequest::kAccept || call.what == AgentRequest::kTake) add_socket(answer, fds);
    fill_tail(call, answer, tail);
    answer.tail_bytes = static_cast<std::uint32_t>(tail.size());
    if (how % 16 == 15) answer.tail_bytes = static_cast<std::uint32_t>(script_.near(tail.size()));
    bool good = true;
    if (how % 32 == 14) {
      const ConstBytes raw = script_.take(script_.below(600));
      (void)::send(fd, raw.data(), raw.size(), MSG_NOSIGNAL);
    } else {
      good = send_answer(fd, answer, fds, tail, 0) == 0;
    }
    for (const int each : fds) (void)::close(each);
    return good && how % 64 != 13;
  }

  std::string folder_, path_;
  int listener_ = -1;
  std::mutex mutex_;
  std::condition_variable idle_;
  unsigned connections_ = 0;
  Input script_{ConstBytes()};
  std::vector<std::shared_ptr<ShadowMemory>> memories_;
  std::size_t left_ = 0;
};

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// What the agent says of memory that both have.
void meddle(Liar& liar, Input& input) {
  liar.with_memories([&](auto& memories) {
    if (memories.empty()) return;
    ShadowMemory& memory = *memories[input.below(memories.size())];
    for (std::uint64_t n = 1 + input.below(4); n > 0; --n) {
      ShadowSide& side = memory.side(static_cast<int>(input.below(2)));
      const std::uint64_t value = input.near(input.below(5000));
      switch (input.below(8)) {
        case 0: side.tail.store(value); break;
        case 1: side.head.store(value); break;
        case 2: side.ended.store(static_cast<std::uint32_t>(input.below(4))); break;
        case 3: side.deaf.store(static_cast<std::uint32_t>(input.below(4))); break;
        case 4: side.state.store(static_cast<std::uint32_t>(input.below(16))); break;
        case 5: side.error.store(static_cast<std::uint32_t>(value)); break;
        case 6: side.queued.store(static_cast<std::uint32_t>(value)); break;
        default: side.waiting.store(static_cast<std::uint32_t>(input.below(4))); break;
      }
    }
  });
}

void use_sockets(Liar& liar, Input& input) {
  liar.expect_one();
  auto link = AgentLink::connect({.agent_path = liar.path(), .stg_path = {}, .host = {}, .patience_ms = kPatienceMs});
  if (!link) return require(!link.error().text.empty(), "who is not served is told why");
  AgentSockets sockets(*link);
  std::vector<SocketId> ids;
  std::vector<std::byte> buffer(8192);
  for (int i = 0; i < 80 && !input.empty(); ++i) {
    const SocketId id = ids.empty() ? 1 : ids[input.below(ids.size())];
    switch (input.below(16)) {
      case 0:
      case 1:
        if (const auto opened = sockets.open(0)) ids.push_back(*opened);
        break;
      case 2: (void)sockets.bind(id, input.u16()); break;
      case 3: (void)sockets.listen(id, input.u8()); break;
      case 4:
        if (const auto accepted = sockets.accept(id, 0)) ids.push_back(*accepted);
        break;
      case 5: (void)sockets.connect(id, {.host = "beta", .stg = {}, .port = 80}, input.flag(), 0); break;
      case 6:
      case 7: {
        const std::size_t n = input.below(buffer.size());
        const auto sent = sockets.send(id, ConstBytes(buffer).first(n), 0);
        require(!sent || *sent <= n, "no more is sent than there is");
        break;
      }
      case 8:
      case 9: {
        std::vector<std::byte> exact(input.below(6000));
        const auto got = sockets.receive(id, exact, input.flag(), 0);
        require(!got || *got <= exact.size(), "no more is received than fits");
        break;
      }
      case 10: (void)sockets.shut(id, input.flag(), input.flag(), 0); break;
      case 11: {
        const auto info = sockets.info(id);
        require(!info || info->readable_bytes <= 4096, "no more is to be read than the ring holds");
        (void)sockets.ready(id), (void)sockets.take_error(id);
        if (const auto entry = sockets.find(id)) (void)entry->bits();
        break;
      }
      case 12:
        sockets.close(id, input.flag(), 0);
        (void)sockets.closing(id);
        if (input.flag()) sockets.forget(id);
        break;
      case 13:
        if (const auto taken = sockets.take({.host = "alpha", .agent = 1, .program = 1, .pid = 1}, 3)) ids.push_back(*taken);
        break;
      case 14: (void)sockets.give(id, 3, {.host = "alpha", .agent = 1, .program = 1, .pid = 1}); break;
      default: meddle(liar, input); break;
    }
  }
  for (const SocketId id : ids) sockets.close(id, true, 0), sockets.forget(id);
}

void use_client(Liar& liar, Input& input) {
  liar.expect_one();
  auto client = AgentClient::connect(liar.path(), "", kPatienceMs);
  if (!client) return require(!client.error().text.empty(), "who is not served is told why");
  for (int i = 0; i < 8 && !input.empty(); ++i) {
    switch (input.below(4)) {
      case 0: (void)client->stats(); break;
      case 1:
        if (const auto rows = client->sockets()) require(rows->size() <= kMostAnswers * (kMostTail / sizeof(AgentSocketRow)), "a list comes to an end");
        break;
      case 2:
        if (const auto hosts = client->hosts())
          for (const Peer& peer : hosts->peers) require(peer.name.size() < 96 && peer.state <= PeerState::kLeft, "a host is one");
        break;
      default: {
        std::vector<std::byte> blocks(kMinBlockSize * (1 + input.below(4)));
        (void)client->read(input.below(100), blocks);
        break;
      }
    }
    (void)client->dead();
  }
}

}  // namespace

void run(ConstBytes bytes) {
  static Liar* const liar = [] {
    auto* const made = new Liar;  // until the process ends
    static Liar* kept = made;
    std::atexit([] { kept->remove(); });
    return made;
  }();
  Input input(bytes);
  const std::size_t script = input.below(1024);
  const bool client = input.below(4) == 3;
  liar->begin(input.take(script));
  static const std::size_t before = open_descriptors();
  if (client)
    use_client(*liar, input);
  else
    use_sockets(*liar, input);
  liar->wait_until_idle();
  liar->begin({});  // lets the memory go
  require(open_descriptors() == before, "no descriptor is left open");
}

}  // namespace stp::fuzz
