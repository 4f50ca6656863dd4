#include "hostlib/agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hostlib/deadline.h"
#include "hostlib/host_list.h"
#include "hostlib/news_board.h"
#include "hostlib/own_address.h"
#include "stp/names.h"
#include "stp/system.h"

namespace stp::host {
namespace {

constexpr Nanos kLongestSleep = 250 * kMillisecond;
constexpr Nanos kLeaveLinger = 5 * kSecond;
constexpr std::size_t kWorkAtOnce = 64;       // sockets between two looks at everything else
constexpr int kRequestsAtOnce = 64;           // of one program
constexpr std::size_t kMoveAtOnce = 256 * 1024;  // bytes each way, then it is the next socket's turn
constexpr std::uint16_t kFirstFreePort = 1024;   // those below are root's
constexpr std::uint32_t kNoScb = 0xffffffff;
constexpr int kPeerPidfd = 77;                // SO_PEERPIDFD, younger than the headers of the oldest system that we build on

std::unexpected<SocketError> no(int code, Reason reason = Reason::kNone) { return std::unexpected(SocketError{code, reason}); }

// Watched too, because a child of a fork may keep the connection of a program that died.
int pidfd_of(int fd, pid_t pid) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (::getsockopt(fd, SOL_SOCKET, kPeerPidfd, &pidfd, &length) == 0) return pidfd;
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

NewsBoard* make_board(int& fd) {
  fd = ::memfd_create("stp-news", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return nullptr;
  if (::ftruncate(fd, kNewsBoardBytes) != 0 || ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return nullptr;
  void* at = ::mmap(nullptr, kNewsBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? nullptr : static_cast<NewsBoard*>(at);
}

void close_fd(int& fd) {
  if (fd >= 0) (void)::close(std::exchange(fd, -1));
}

}  // namespace

// A program that is connected.
struct Agent::Program {
  std::uint32_t serial = 0;
  int fd = -1;
  int pidfd = -1;
  int bell = -1;         // our end of a socket pair: what is sent here wakes it. Not an eventfd, whose flags the program would share
  int programs_bell = -1;  // its end, until it has it
  int agents_bell = -1;  // written by it, and never read here: each write is an event for the ear, and a read might block
  int board_fd = -1;
  NewsBoard* board = nullptr;
  ucred who = {};
  std::vector<std::uint32_t> by_index;   // numbers of its sockets, 0 = free
  std::vector<std::uint32_t> free_indexes;

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    for (int* each : {&fd, &pidfd, &bell, &programs_bell, &agents_bell, &board_fd}) close_fd(*each);
    if (board != nullptr) (void)::munmap(board, kNewsBoardBytes);
  }

  void tell(std::uint32_t index) {
    if (!board->to_program.set(index)) return;
    // No room: it has not heard of what was told before.
    (void)::send(bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
};

// -- Coming and going ----------------------------------------------------------------------------------------------

Agent::Agent(const AgentSettings& settings) : settings_(settings) {}

Result<std::unique_ptr<Agent>> Agent::start(const AgentSettings& settings) {
  std::unique_ptr<Agent> agent(new Agent(settings));
  agent->path_ = settings.host.path;
  struct stat facts = {};
  if (::stat(settings.host.path.c_str(), &facts) == 0) {
    const bool device = S_ISBLK(facts.st_mode);
    agent->device_ = device ? facts.st_rdev : facts.st_dev;
    agent->inode_ = device ? 0 : facts.st_ino;
  }
  auto host = EmbeddedHost::start(settings.host, agent->mutex_, *agent);
  if (!host) return std::unexpected(host.error());
  agent->host_ = std::move(*host);
  {
    std::unique_lock lock(agent->mutex_);
    if (auto member = agent->host_->wait_until_member(lock, settings.host.progress); !member) return std::unexpected(member.error());
  }
  agent->epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  agent->stop_bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (agent->epoll_ < 0 || agent->stop_bell_ < 0) return fail(errno, fmt::format("can not make an epoll or an eventfd: {}", std::strerror(errno)));
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = 0}};  // of no program
  (void)::epoll_ctl(agent->epoll_, EPOLL_CTL_ADD, agent->stop_bell_, &event);
  Agent* const self = agent.get();
  agent->worker_ = std::thread([self] { self->run(); });
  agent->ear_ = std::thread([self] { self->hear(); });
  return agent;
}

Agent::~Agent() { (void)leave(); }

bool Agent::leave() {
  if (std::exchange(left_, true)) return true;
  stopping_.store(true);
  const std::uint64_t one = 1;
  if (stop_bell_ >= 0) (void)!::write(stop_bell_, &one, sizeof one);
  if (ear_.joinable()) ear_.join();
  if (host_) poke();
  if (worker_.joinable()) worker_.join();
  for (auto& [fd, hello] : arriving_) (void)::close(fd);
  arriving_.clear();
  bool good = true;
  if (host_) {
    std::unique_lock lock(mutex_);
    // Conversations of programs that closed them already go to their end; the others are reset.
    while (!programs_.empty()) drop(*programs_.begin()->second);
    host_->leave(lock, kLeaveLinger);
    const MemberState state = host_->view().self.state;
    good = state == MemberState::kLeft || state == MemberState::kStopped;
  }
  close_fd(epoll_);
  close_fd(stop_bell_);
  return good;
}

bool Agent::serves(const AgentCall& hello) const {
  const std::string path = get_text(hello.path), name = get_text(hello.host);
  const bool same_file = device_ != 0 && hello.device == device_ && hello.inode == inode_;
  const bool storage = path.empty() || path == path_ || same_file || path == host_->superblock().stg;
  return storage && (name.empty() || name == host_->base_name());
}

void Agent::adopt(int fd, const AgentCall& hello) {
  {
    std::lock_guard lock(ear_mutex_);
    arriving_.emplace_back(fd, hello);
  }
  poke();
}

void Agent::set_most_sockets_of_a_user(std::uint32_t count) {
  std::lock_guard lock(mutex_);
  settings_.most_sockets_of_a_user = count;
}

// -- The two threads -----------------------------------------------------------------------------------------------

void Agent::poke() { host_->driving().board_changed(); }

void Agent::hear() {
  epoll_event events[64];
  while (!stopping_.load()) {
    const int count = ::epoll_wait(epoll_, events, 64, -1);
    if (count <= 0) continue;
    {
      std::lock_guard lock(ear_mutex_);
      for (int i = 0; i < count; ++i) {
        const auto program = static_cast<std::uint32_t>(events[i].data.u64);
        const auto what = static_cast<Watched>(events[i].data.u64 >> 32);
        const bool hung_up = what == Watched::kConnection && (events[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
        if (what == Watched::kProcess || hung_up) hung_up_.insert(program);
        if (program != 0) heard_.insert(program);
      }
    }
    poke();
  }
}

void Agent::run() {
  std::unique_lock lock(mutex_);
  std::set<std::uint32_t> heard, hung_up;
  while (!stopping_.load()) {
    take_in_new_programs();
    {
      std::lock_guard ear(ear_mutex_);
      heard.swap(heard_);
      hung_up.swap(hung_up_);
    }
    for (const std::uint32_t serial : heard) {
      const auto it = programs_.find(serial);
      if (it == programs_.end()) continue;
      take_news(*it->second);
      serve_requests(*it->second);
      if (hung_up.contains(serial)) {
        const auto still = programs_.find(serial);
        if (still != programs_.end()) drop(*still->second);
      }
    }
    heard.clear();
    hung_up.clear();
    for (std::size_t n = std::min(dirty_.size(), kWorkAtOnce); n > 0; --n) {
      const auto it = sockets_.find(dirty_.front());
      dirty_.pop_front();
      if (it == sockets_.end()) continue;
      it->second->dirty = false;
      work(*it->second);
    }
    give_up_stuck_closes(boottime_now());
    host_->driving().step(boottime_now());
    bool idle = dirty_.empty();
    if (idle) {
      std::lock_guard ear(ear_mutex_);
      idle = heard_.empty() && arriving_.empty();
    }
    if (idle) {
      (void)host_->driving().wait(lock, nullptr, Driving::kOneStep, after(boottime_now(), kLongestSleep));
    } else {
      lock.unlock();  // whoever wants to know something of a busy agent gets a turn
      lock.lock();
    }
  }
}

void Agent::take_in_new_programs() {
  std::vector<std::pair<int, AgentCall>> arriving;
  {
    std::lock_guard ear(ear_mutex_);
    arriving.swap(arriving_);
  }
  for (auto& [fd, hello] : arriving) {
    auto program = std::make_unique<Program>();
    program->fd = fd;
    program->serial = next_serial_++;
    socklen_t length = sizeof program->who;
    AgentAnswer refusal;
    refusal.error = EPROTO;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &program->who, &length) == 0) refusal.error = greet(*program, hello);
    if (refusal.error != 0) {
      (void)send_answer(fd, refusal, {}, {}, MSG_DONTWAIT);
      ++counters_.refused_requests;
      continue;
    }
    ++counters_.programs_served;
    programs_.emplace(program->serial, std::move(program));
  }
}

int Agent::greet(Program& program, const AgentCall& hello) {
  if (hello.version != kAgentProtocolVersion) return EPROTONOSUPPORT;
  int bells[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bells) != 0) return EMFILE;
  program.bell = bells[0];
  program.programs_bell = bells[1];
  program.agents_bell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  program.board = make_board(program.board_fd);
  program.pidfd = pidfd_of(program.fd, program.who.pid);
  if (program.agents_bell < 0 || program.board == nullptr) return EMFILE;
  AgentAnswer welcome;
  put_text(welcome.host, host_->own_name());
  std::vector<std::byte> superblock(kMinBlockSize);
  encode_superblock(superblock, host_->superblock(), 0);
  welcome.tail_bytes = static_cast<std::uint32_t>(superblock.size());
  const int fds[] = {program.board_fd, program.programs_bell, program.agents_bell};
  if (const int code = send_answer(program.fd, welcome, fds, superblock, MSG_DONTWAIT); code != 0) return code;
  close_fd(program.board_fd);
  close_fd(program.programs_bell);
  const auto watch = [&](int fd, std::uint32_t events, Watched what) {
    epoll_event event = {};
    event.events = events | EPOLLET;
    event.data.u64 = program.serial | static_cast<std::uint64_t>(what) << 32;
    return fd < 0 || ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
  };
  const bool watched = watch(program.fd, EPOLLIN | EPOLLRDHUP, Watched::kConnection) && watch(program.agents_bell, EPOLLIN, Watched::kBell) &&
                       watch(program.pidfd, EPOLLIN, Watched::kProcess);
  return watched ? 0 : errno;
}

// The program is gone: nothing of it stays, and whoever talks with it gets a reset.
void Agent::drop(Program& program) {
  const std::vector<std::uint32_t> numbers = program.by_index;
  for (const std::uint32_t number : numbers) {
    const auto it = sockets_.find(number);
    if (number == 0 || it == sockets_.end()) continue;
    AgentSocket& socket = *it->second;
    if (!socket.closing) close(socket, true);
    socket.program = 0;
    socket.forgotten = true;
    finish(socket);
  }
  // The program may have kept descriptors of the same files: closing ours would leave them watched.
  for (const int fd : {program.fd, program.agents_bell, program.pidfd}) (void)::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  programs_.erase(program.serial);
}

// -- What a socket has to do ---------------------------------------------------------------------------------------

void Agent::note(AgentSocket& socket) {
  if (std::exchange(socket.dirty, true)) return;
  if (dirty_.empty()) poke();  // the engine may have found it in the very step before the worker's sleep
  dirty_.push_back(socket.number);
}

void Agent::on_ready(SocketId id, std::uint32_t bits) {
  const auto it = by_engine_id_.find(id);
  if (it == by_engine_id_.end()) return;
  AgentSocket& socket = *it->second;
  if ((bits & Ready::kDrained) != 0) {
    socket.drained = true;
    socket.lost |= (bits & Ready::kHangUp) != 0;
  }
  note(socket);
}

// After the program's side of the shadow changed.
void Agent::tell(AgentSocket& socket) {
  if (!socket.end.wake_other()) return;
  tell_surely(socket);
}

// Without asking whether it wants to hear: the marks of a local conversation are within reach of the other program.
void Agent::tell_surely(AgentSocket& socket) {
  ShadowEnd::wake(socket.program_side());
  if (const auto it = programs_.find(socket.program); it != programs_.end()) it->second->tell(socket.index);
}

void Agent::take_news(Program& program) {
  program.board->to_agent.take([&](std::uint32_t index) {
    if (index >= program.by_index.size()) return;
    const auto it = sockets_.find(program.by_index[index]);
    if (it == sockets_.end()) return;
    AgentSocket& socket = *it->second;
    if (!socket.local) return note(socket);
    // It took off the other's mark, and asks that the other be told.
    const auto twin = sockets_.find(socket.twin);
    if (twin == sockets_.end()) return;
    if (const auto other = programs_.find(twin->second->program); other != programs_.end()) other->second->tell(twin->second->index);
  });
}

void Agent::update_queued(AgentSocket& listener) {
  const auto bits = host_->engine().ready(listener.engine_id);
  listener.remote_waits = bits && (*bits & Ready::kRead) != 0;
  listener.program_side().queued.store(static_cast<std::uint32_t>(listener.queue.size()) + (listener.remote_waits ? 1 : 0), std::memory_order_release);
  tell(listener);
}

namespace {

void end_with(AgentSocket& socket, const SocketError& error) {
  socket.over = true;
  socket.program_side().error.store(static_cast<std::uint32_t>(error.code), std::memory_order_relaxed);
  socket.program_side().reason.store(static_cast<std::uint32_t>(error.reason), std::memory_order_relaxed);
  socket.program_side().state.fetch_or(ShadowSide::kOver, std::memory_order_release);
}

// What one direction came to.
struct Moved {
  std::size_t bytes = 0;
  bool stopped = false;   // nothing more to move now, whatever the ring says
  SocketError error;      // code 0: none
};

Moved move_out(Engine& engine, AgentSocket& socket) {
  Moved moved;
  const Nanos now = boottime_now();
  while (moved.bytes < kMoveAtOnce) {
    const ConstBytes piece = socket.end.next_readable();
    if (piece.empty()) break;
    const auto taken = engine.send(socket.engine_id, piece.first(std::min(piece.size(), kMoveAtOnce)), now);
    if (!taken) {
      moved.stopped = true;
      if (taken.error().code != EAGAIN) moved.error = taken.error();
      break;
    }
    socket.end.take(*taken);
    moved.bytes += *taken;
  }
  return moved;
}

Moved move_in(Engine& engine, AgentSocket& socket) {
  Moved moved;
  const Nanos now = boottime_now();
  while (moved.bytes < kMoveAtOnce && !socket.end_given) {
    const Bytes room = socket.end.next_room();
    if (room.empty()) break;
    const auto given = engine.receive(socket.engine_id, room, false, now);
    if (!given) {
      moved.stopped = true;
      if (given.error().code != EAGAIN) moved.error = given.error();
      break;
    }
    if (*given == 0) {
      socket.end.end(ShadowSide::kEnd);
      socket.end_given = true;
      break;
    }
    socket.end.publish(*given);
    moved.bytes += *given;
  }
  moved.stopped |= socket.end_given;
  return moved;
}

}  // namespace

void Agent::work(AgentSocket& socket) {
  Engine& engine = host_->engine();
  if (socket.listening && !socket.closing) return update_queued(socket);
  if (socket.local || socket.engine_id == 0) return finish(socket);
  if (socket.connecting) {
    const auto info = engine.info(socket.engine_id);
    if (!info || (info->ready & Ready::kConnect) == 0) return finish(socket);
    socket.connecting = false;
    const SocketError error = engine.take_error(socket.engine_id);
    if (error.code != 0) {
      end_with(socket, error);
    } else {
      socket.connected = true;
      socket.end.memory()->close_fd();
      socket.peer_host = info->peer.host;
      socket.peer_port = info->peer.port;
      socket.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
    }
    tell(socket);
  }
  if (socket.connected && !socket.over && !socket.engine_closed) {
    // Asked for first: whatever the program does from here on is told, and whatever it did before is seen below.
    socket.end.want_news();
    if (socket.end.broken()) {
      engine.close(socket.engine_id, true, boottime_now());
      socket.engine_closed = true;
      end_with(socket, {ECONNRESET, Reason::kProtocol});
      tell(socket);
      return finish(socket);
    }
    if ((socket.end.deaf() & ShadowSide::kDrops) != 0 && !std::exchange(socket.read_shut, true))
      (void)engine.shut(socket.engine_id, true, false, boottime_now());
    const std::uint32_t ended = socket.end.ended();
    const Moved out = move_out(engine, socket);
    counters_.bytes_sent += out.bytes;
    if ((ended & ShadowSide::kEnd) != 0 && !socket.closing && !socket.end_sent && out.error.code == 0 && socket.end.readable() == 0) {
      socket.end_sent = true;
      (void)engine.shut(socket.engine_id, false, true, boottime_now());
    }
    Moved in;
    if (!socket.closing && !socket.read_shut) in = move_in(engine, socket);
    counters_.bytes_received += in.bytes;
    // What arrived ahead of a failure is the program's first.
    const bool all_given = in.stopped || socket.closing || socket.read_shut;
    if (in.error.code != 0)
      end_with(socket, in.error);
    else if (out.error.code != 0 && all_given)
      end_with(socket, out.error);
    const bool more_out = out.bytes >= kMoveAtOnce, more_in = in.bytes >= kMoveAtOnce;
    if ((more_out || more_in) && !socket.over) note(socket);
    tell(socket);
  }
  finish(socket);
}

// -- Ends ----------------------------------------------------------------------------------------------------------

void Agent::finish(AgentSocket& socket) {
  if (!socket.closing) return;
  // Between two programs here what was sent lies in the receiver's shadow already.
  const bool all_out = socket.local || socket.over || !socket.connected || socket.end.readable() == 0;
  if (socket.engine_id != 0 && !socket.engine_closed && all_out) {
    socket.lost |= !socket.local && socket.over && socket.end.readable() > 0;
    // Bytes that the program had not read: its peer is to know, if nothing of ours would be lost by that.
    const auto info = host_->engine().info(socket.engine_id);
    const bool unread = socket.connected && !socket.local && !socket.over && socket.end.unread() > 0 && !socket.read_shut;
    socket.engine_closed = true;
    host_->engine().close(socket.engine_id, unread && info && info->unacknowledged_bytes == 0, boottime_now());
  }
  if (socket.engine_id == 0) socket.drained = true;
  if (socket.engine_id != 0 && socket.engine_closed && !host_->engine().closing(socket.engine_id)) socket.drained = true;
  if (!socket.drained) return;
  socket.program_side().state.fetch_or(ShadowSide::kDrained | (socket.lost ? ShadowSide::kLost : 0), std::memory_order_release);
  tell(socket);
  if (socket.forgotten) destroy(socket);
}

void Agent::destroy(AgentSocket& socket) {
  if (const auto it = programs_.find(socket.program); it != programs_.end() && socket.index < it->second->by_index.size()) {
    it->second->by_index[socket.index] = 0;
    it->second->free_indexes.push_back(socket.index);
  }
  by_engine_id_.erase(socket.engine_id);
  closing_.erase(socket.number);
  if (const auto user = sockets_of_user_.find(socket.user); user != sockets_of_user_.end() && --user->second == 0) sockets_of_user_.erase(user);
  sockets_.erase(socket.number);
}

void Agent::close_listener(AgentSocket& listener) {
  listeners_.erase(listener.port);
  for (const std::uint32_t number : std::exchange(listener.queue, {})) {
    const auto it = sockets_.find(number);
    if (it == sockets_.end()) continue;
    it->second->listener = 0;
    close(*it->second, true);
    it->second->forgotten = true;
    finish(*it->second);
  }
}

void Agent::close(AgentSocket& socket, bool abort) {
  if (std::exchange(socket.closing, true)) return;
  closing_[socket.number] = {.left = socket.end.readable(), .since = boottime_now()};
  if (socket.listening) close_listener(socket);
  if (socket.local) {
    // The program has ended its side itself; one that died could not.
    ShadowSide& side = socket.program_side();
    side.ended.fetch_or(abort ? ShadowSide::kReset : ShadowSide::kEnd, std::memory_order_seq_cst);
    side.deaf.fetch_or(ShadowSide::kGone, std::memory_order_seq_cst);
    if (const auto twin = sockets_.find(socket.twin); twin != sockets_.end()) {
      twin->second->twin = 0;
      const bool connected = (twin->second->program_side().state.load() & ShadowSide::kConnected) != 0;
      if (!connected) end_with(*twin->second, {ECONNREFUSED, Reason::kListenerClosed});  // it waits for an accept that will not come
      tell_surely(*twin->second);
    }
  }
  if (abort && socket.engine_id != 0 && !socket.engine_closed) {
    socket.engine_closed = true;
    host_->engine().close(socket.engine_id, true, boottime_now());
  }
  note(socket);
}

// A closed socket whose peer takes nothing must not be kept for as long as that peer lives.
void Agent::give_up_stuck_closes(Nanos now) {
  if (now < next_look_at_closes_) return;
  next_look_at_closes_ = now + kSecond;
  for (auto& [number, progress] : closing_) {
    const auto it = sockets_.find(number);
    if (it == sockets_.end() || it->second->engine_closed || it->second->engine_id == 0) continue;
    AgentSocket& socket = *it->second;
    const std::size_t left = socket.end.readable();
    if (left != progress.left) progress = {.left = left, .since = now};
    if (now - progress.since < host_->patience()) continue;
    socket.engine_closed = true;
    socket.lost = true;
    host_->engine().close(socket.engine_id, true, now);
    note(socket);
  }
}

// -- Requests ------------------------------------------------------------------------------------------------------

void Agent::serve_requests(Program& program) {
  for (int i = 0; i < kRequestsAtOnce; ++i) {
    AgentCall call;
    const int code = receive_call(program.fd, call, MSG_DONTWAIT);
    if (code == EAGAIN) return;
    if (code != 0) {
      if (code == EPROTO) log(fmt::format("program {} (user {}) sent what is no request: its connection is closed", program.who.pid, program.who.uid));
      return drop(program);
    }
    answer(program, call);
  }
  // More may wait, and the ear is told of changes only.
  std::lock_guard ear(ear_mutex_);
  heard_.insert(program.serial);
}

AgentSocket* Agent::find(Program& program, std::uint32_t number) {
  const auto it = sockets_.find(number);
  return it != sockets_.end() && it->second->program == program.serial ? it->second.get() : nullptr;
}

void Agent::answer(Program& program, const AgentCall& call) {
  AgentAnswer answer;
  std::vector<int> fds;
  std::vector<std::byte> tail;
  SocketResult<void> done;
  AgentSocket* const socket = find(program, call.socket);
  const bool of_socket = call.what != AgentRequest::kOpen && call.what != AgentRequest::kView && call.what != AgentRequest::kLook &&
                         call.what != AgentRequest::kStats;
  if (of_socket && (socket == nullptr || (socket->closing && call.what != AgentRequest::kForget))) {
    done = no(EBADF);
  } else {
    switch (call.what) {
      case AgentRequest::kOpen: done = open(program, answer, fds); break;
      case AgentRequest::kBind: done = bind(program, *socket, call.number, answer); break;
      case AgentRequest::kListen: done = listen(*socket, call.number, answer); break;
      case AgentRequest::kAccept: done = accept(program, *socket, answer, fds); break;
      case AgentRequest::kConnect: done = connect(*socket, call, answer); break;
      case AgentRequest::kClose:
        close(*socket, (call.flags & AgentCall::kAbort) != 0);
        finish(*socket);
        break;
      case AgentRequest::kForget:
        socket->forgotten = true;
        finish(*socket);
        break;
      case AgentRequest::kInfo:
        put_text(answer.host, socket->peer_host);
        answer.port = socket->port;
        answer.peer_port = socket->peer_port;
        if (socket->engine_id != 0 && !socket->local) {
          const auto info = host_->engine().info(socket->engine_id);
          answer.bytes = socket->end.readable() + (info ? info->unacknowledged_bytes : 0);
        }
        break;
      case AgentRequest::kBuffers:
        if (socket->engine_id == 0) break;
        if ((call.flags & AgentCall::kSend) != 0)
          host_->engine().set_send_buffer(socket->engine_id, call.number);
        else
          host_->engine().set_receive_window(socket->engine_id, call.number);
        break;
      case AgentRequest::kView: tail = encode_hosts(host_->view(), kMostTail); break;
      case AgentRequest::kStats: {
        AgentStats stats{.agent = counters_, .engine = host_->counters()};
        stats.agent.programs = programs_.size();
        stats.agent.sockets = sockets_.size();
        const auto* bytes = reinterpret_cast<const std::byte*>(&stats);
        tail.assign(bytes, bytes + sizeof stats);
        break;
      }
      case AgentRequest::kLook: host_->look_at_leases_now(); break;
      case AgentRequest::kHello: done = no(EPROTO); break;
      default: done = no(EOPNOTSUPP, Reason::kNotYet); break;
    }
  }
  if (!done) {
    answer.error = done.error().code;
    answer.reason = static_cast<std::uint32_t>(done.error().reason);
    ++counters_.refused_requests;
  }
  answer.tail_bytes = static_cast<std::uint32_t>(tail.size());
  // One request, one answer: a program that does not take its answers has no room for more, and loses its connection.
  if (send_answer(program.fd, answer, fds, tail, MSG_DONTWAIT) != 0) {
    std::lock_guard ear(ear_mutex_);
    hung_up_.insert(program.serial);
    heard_.insert(program.serial);
  }
  // Once both sides have their memory nobody needs its descriptor. That of a socket that may yet connect to a program here stays.
  if (call.what == AgentRequest::kAccept && !fds.empty())
    if (const auto made = sockets_.find(answer.socket); made != sockets_.end()) made->second->end.memory()->close_fd();
}

SocketResult<AgentSocket*> Agent::new_socket(Program& program, std::shared_ptr<ShadowMemory> memory, int program_side) {
  std::uint32_t& of_user = sockets_of_user_[program.who.uid];
  if (of_user >= settings_.most_sockets_of_a_user) return no(ENFILE, Reason::kNoSockets);
  auto socket = std::make_unique<AgentSocket>();
  while (next_number_ == 0 || sockets_.contains(next_number_)) ++next_number_;
  socket->number = next_number_++;
  socket->user = program.who.uid;
  socket->end = ShadowEnd(std::move(memory), 1 - program_side);
  ++of_user;
  AgentSocket* const made = socket.get();
  sockets_.emplace(made->number, std::move(socket));
  return made;
}

namespace {

template <class Program>
SocketResult<void> give_to(Program& program, AgentSocket& socket) {
  if (program.free_indexes.empty() && program.by_index.size() >= kMostSocketsOfAProgram) return no(ENFILE, Reason::kNoSockets);
  if (program.free_indexes.empty()) {
    program.free_indexes.push_back(static_cast<std::uint32_t>(program.by_index.size()));
    program.by_index.push_back(0);
  }
  socket.index = program.free_indexes.back();
  program.free_indexes.pop_back();
  program.by_index[socket.index] = socket.number;
  socket.program = program.serial;
  return {};
}

}  // namespace

SocketResult<void> Agent::open(Program& program, AgentAnswer& answer, std::vector<int>& fds) {
  auto memory = ShadowMemory::create(settings_.ring_bytes);
  if (!memory) return no(memory.error());
  auto made = new_socket(program, *memory, 0);
  if (!made) return std::unexpected(made.error());
  AgentSocket& socket = **made;
  auto id = host_->engine().open(boottime_now());
  if (!id) {
    socket.forgotten = true;
    destroy(socket);
    return std::unexpected(id.error());
  }
  socket.engine_id = *id;
  by_engine_id_[*id] = &socket;
  if (auto given = give_to(program, socket); !given) {
    close(socket, true);
    socket.forgotten = true;
    finish(socket);
    return given;
  }
  ++counters_.sockets_opened;
  const auto info = host_->engine().info(*id);
  answer.socket = socket.number;
  answer.index = socket.index;
  answer.scb = info ? info->scb : kNoScb;
  answer.side = 0;
  fds.push_back((*memory)->fd());
  return {};
}

SocketResult<void> Agent::bind(Program& program, AgentSocket& socket, std::uint32_t port, AgentAnswer& answer) {
  if (port > 0xffff) return no(EINVAL);
  if (port != 0 && port < kFirstFreePort && program.who.uid != 0) return no(EACCES);
  const auto bound = host_->engine().bind(socket.engine_id, static_cast<std::uint16_t>(port));
  if (!bound) return std::unexpected(bound.error());
  answer.port = socket.port = *bound;
  return {};
}

SocketResult<void> Agent::listen(AgentSocket& socket, std::uint32_t backlog, AgentAnswer& answer) {
  if (socket.connecting || socket.connected) return no(EINVAL);
  if (auto listening = host_->engine().listen(socket.engine_id, backlog); !listening) return listening;
  const auto info = host_->engine().info(socket.engine_id);
  answer.port = socket.port = info ? info->local.port : socket.port;
  socket.listening = true;
  socket.backlog = std::clamp(backlog, 1u, 4096u);
  listeners_[socket.port] = &socket;
  socket.end.memory()->close_fd();
  return {};
}

SocketResult<void> Agent::connect(AgentSocket& socket, const AgentCall& call, AgentAnswer& answer) {
  if (call.number == 0 || call.number > 0xffff) return no(ECONNREFUSED, Reason::kNoListener);
  if (socket.listening) return no(EOPNOTSUPP);
  // Also after a reset: what lies in the shadow belongs to the old conversation.
  if (socket.connected) return no(EISCONN);
  if (socket.connecting || socket.local) return no(EALREADY);
  Address peer{.host = get_text(call.host), .stg = {}, .port = static_cast<std::uint16_t>(call.number)};
  const bool wait = (call.flags & AgentCall::kWaitForAccept) != 0;
  ++counters_.connects;
  if (is_own_name(peer.host, *host_)) {
    if (const auto found = listeners_.find(peer.port); found != listeners_.end()) return connect_here(socket, *found->second, wait, answer);
  }
  const auto begun = host_->engine().connect(socket.engine_id, peer, wait, boottime_now());
  if (!begun && begun.error().code != EINPROGRESS) return begun;
  const auto info = host_->engine().info(socket.engine_id);
  answer.port = socket.port = info ? info->local.port : 0;
  socket.program_side().state.fetch_and(~ShadowSide::kOver, std::memory_order_release);  // of an attempt before
  socket.over = false;
  socket.connecting = true;
  note(socket);
  return {};
}

// Both programs are of this agent: the second gets the other end of the first one's shadow.
SocketResult<void> Agent::connect_here(AgentSocket& socket, AgentSocket& listener, bool wait_for_accept, AgentAnswer& answer) {
  if (listener.queue.size() >= listener.backlog) return no(ECONNREFUSED, Reason::kBacklogFull);
  if (socket.end.memory()->fd() < 0) return no(EINVAL);
  if (socket.port == 0) {
    const auto bound = host_->engine().bind(socket.engine_id, 0);
    if (!bound) return no(EADDRNOTAVAIL, bound.error().reason);
    socket.port = *bound;
  }
  const auto owner = programs_.find(listener.program);
  if (owner == programs_.end()) return no(ECONNREFUSED, Reason::kNoListener);
  auto made = new_socket(*owner->second, socket.end.memory(), 1);
  if (!made) return no(ECONNREFUSED, made.error().reason);
  AgentSocket& other = **made;
  socket.program_side().state.fetch_and(~ShadowSide::kOver, std::memory_order_release);  // of an attempt before
  socket.over = false;
  socket.local = other.local = true;
  socket.connected = other.connected = true;
  socket.twin = other.number;
  other.twin = socket.number;
  other.port = listener.port;
  other.listener = listener.number;
  other.tell_accepted = wait_for_accept;
  other.peer_host = host_->own_name();
  other.peer_port = socket.port;
  socket.peer_host = host_->own_name();
  socket.peer_port = listener.port;
  other.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
  if (!wait_for_accept) socket.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
  listener.queue.push_back(other.number);
  ++counters_.local_connects;
  answer.port = socket.port;
  answer.local = 1;
  update_queued(listener);
  return {};
}

SocketResult<void> Agent::accept(Program& program, AgentSocket& listener, AgentAnswer& answer, std::vector<int>& fds) {
  if (!listener.listening) return no(EINVAL);
  const auto hand_out = [&](AgentSocket& socket, int side) {
    ++counters_.accepts;
    answer.socket = socket.number;
    answer.index = socket.index;
    answer.side = static_cast<std::uint32_t>(side);
    answer.local = socket.local ? 1 : 0;
    answer.port = socket.port;
    answer.peer_port = socket.peer_port;
    put_text(answer.host, socket.peer_host);
    fds.push_back(socket.end.memory()->fd());
  };
  const bool here_first = !listener.queue.empty() && !(listener.remote_next && listener.remote_waits);
  if (here_first) {
    AgentSocket& socket = *sockets_.at(listener.queue.front());
    if (socket.end.memory()->fd() < 0) return no(EPROTO);
    if (auto given = give_to(program, socket); !given) return given;
    listener.queue.pop_front();
    listener.remote_next = true;
    socket.listener = 0;
    answer.scb = kNoScb;
    hand_out(socket, 1);
    if (socket.tell_accepted) {
      if (const auto twin = sockets_.find(socket.twin); twin != sockets_.end()) {
        twin->second->program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
        tell(*twin->second);
      }
    }
    update_queued(listener);
    return {};
  }
  listener.remote_next = false;
  // Looked at before the connection is taken out of the queue: afterwards it would be lost.
  const bool index_free = !program.free_indexes.empty() || program.by_index.size() < kMostSocketsOfAProgram;
  if (!index_free || sockets_of_user_[program.who.uid] >= settings_.most_sockets_of_a_user) return no(ENFILE, Reason::kNoSockets);
  auto memory = ShadowMemory::create(settings_.ring_bytes);
  if (!memory) return no(memory.error());
  const auto id = host_->engine().accept(listener.engine_id, boottime_now());
  if (!id) {
    update_queued(listener);
    return std::unexpected(id.error());
  }
  auto made = new_socket(program, *memory, 0);
  const SocketResult<void> given = made ? give_to(program, **made) : SocketResult<void>(std::unexpected(made.error()));
  if (!given) {
    host_->engine().close(*id, true, boottime_now());
    if (made) destroy(**made);
    update_queued(listener);
    return given;
  }
  AgentSocket& socket = **made;
  const auto info = host_->engine().info(*id);
  socket.engine_id = *id;
  by_engine_id_[*id] = &socket;
  socket.connected = true;
  socket.port = listener.port;
  socket.peer_host = info ? info->peer.host : "";
  socket.peer_port = info ? info->peer.port : 0;
  socket.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
  answer.scb = info ? info->scb : kNoScb;
  hand_out(socket, 0);
  note(socket);
  update_queued(listener);
  return {};
}

}  // namespace stp::host
