#include "hostlib/agent.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "hostlib/agent_transfer.h"
#include "hostlib/deadline.h"
#include "hostlib/quiet_thread.h"
#include "stp/system.h"

namespace stp::host {
namespace {

constexpr Nanos kLongestSleep = 250 * kMillisecond;
constexpr Nanos kDeafSleep = 5 * kMillisecond;
constexpr Nanos kLeaveLinger = 5 * kSecond;
constexpr Nanos kReadLinger = 2 * kSecond;
constexpr Nanos kLookPeriod = kSecond;
constexpr std::size_t kMostHolders = 1024;     // of one socket
constexpr std::size_t kHoldsForASocket = 16;   // of one user, for each socket that it may have
constexpr std::size_t kWorkAtOnce = 64;  // sockets between two looks at everything else

void close_fd(int& fd) {
  if (fd >= 0) (void)::close(std::exchange(fd, -1));
}

}  // namespace

// -- Coming and going ----------------------------------------------------------------------------------------------

Agent::Agent(const AgentSettings& settings) : settings_(settings) { settings_.ring_bytes = std::bit_ceil(settings_.ring_bytes); }

Result<std::unique_ptr<Agent>> Agent::start(const AgentSettings& settings) {
  std::unique_ptr<Agent> agent(new Agent(settings));
  agent->path_ = settings.host.path;
  struct stat facts = {};
  if (::stat(settings.host.path.c_str(), &facts) == 0) {
    const bool device = S_ISBLK(facts.st_mode);
    agent->device_ = device ? facts.st_rdev : facts.st_dev;
    agent->inode_ = device ? 0 : facts.st_ino;
  }
  auto host = EmbeddedHost::start(settings.host, EmbeddedHost::DrivenBy::kOwnThread, agent->mutex_, *agent);
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
  agent->reader_ = std::make_unique<AgentReader>(agent->host_->blocks(), [self](AgentReader::Done done) {
    {
      std::lock_guard ear(self->ear_mutex_);
      self->read_.push_back(std::move(done));
    }
    self->poke();
  });
  agent->worker_ = std::thread([self] { self->run(); });
  return agent;
}

Agent::~Agent() { (void)leave(); }

bool Agent::leave() {
  if (std::exchange(left_, true)) return true;
  stopping_.store(true);
  const std::uint64_t one = 1;
  if (stop_bell_ >= 0) (void)!::write(stop_bell_, &one, sizeof one);
  if (host_) poke();
  if (worker_.joinable()) worker_.join();
  if (ear_.joinable()) ear_.join();
  for (auto& [fd, hello] : arriving_) (void)::close(fd);
  arriving_.clear();
  bool good = reader_ == nullptr || reader_->stop(kReadLinger);
  if (host_) {
    std::unique_lock lock(mutex_);
    // Conversations of programs that closed them already go to their end; the others are reset.
    while (!programs_.empty()) {
      const std::uint32_t serial = programs_.begin()->first;
      serve_requests(*programs_.begin()->second, true);  // closes, above all, that it took for done
      if (const auto still = programs_.find(serial); still != programs_.end()) drop(*still->second);
    }
    for (const auto& [number, given] : std::exchange(given_, {})) end_held(*sockets_.at(number), true);
    host_->leave(lock, kLeaveLinger);
    const MemberState state = host_->view().self.state;
    good &= state == MemberState::kLeft || state == MemberState::kStopped;
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

void Agent::set_limits(std::uint32_t sockets_of_a_user, std::uint64_t memory_of_a_user, Nanos given_for) {
  std::lock_guard lock(mutex_);
  settings_.most_sockets_of_a_user = sockets_of_a_user;
  settings_.most_memory_of_a_user = memory_of_a_user;
  settings_.given_for = given_for;
}

// -- The two threads -----------------------------------------------------------------------------------------------

void Agent::poke() { host_->driving().board_changed(); }

void Agent::listen() {
  while (!stopping_.load()) {
    hear(-1);
    poke();
  }
}

void Agent::hear(int timeout_ms) {
  epoll_event events[64];
  const int count = ::epoll_wait(epoll_, events, 64, timeout_ms);
  if (count <= 0) return;
  std::lock_guard lock(ear_mutex_);
  for (int i = 0; i < count; ++i) {
    const auto program = static_cast<std::uint32_t>(events[i].data.u64);
    const auto what = static_cast<AgentProgram::Watched>(events[i].data.u64 >> 32);
    const bool hung_up = what == AgentProgram::Watched::kConnection && (events[i].events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0;
    if (what == AgentProgram::Watched::kProcess || hung_up) hung_up_.insert(program);
    if (program != 0) heard_.insert(program);
  }
}

void Agent::run() {
  std::unique_lock lock(mutex_);
  std::set<std::uint32_t> heard, hung_up;
  bool deaf = false;  // there is no room for a thread: it looks
  while (!stopping_.load()) {
    if (!ear_.joinable() && !host_->driving().watching()) {
      hear(0);
      if (!host_->driving().watch(epoll_)) deaf = !start_quiet_thread(ear_, [this] { listen(); });  // else it says so at once if there is more
    }
    take_in_new_programs();
    hand_out_reads();
    {
      std::lock_guard ear(ear_mutex_);
      heard.swap(heard_);
      hung_up.swap(hung_up_);
    }
    for (const std::uint32_t serial : heard) {
      const auto it = programs_.find(serial);
      if (it == programs_.end()) continue;
      take_news(*it->second);
      const bool is_gone = hung_up.contains(serial);
      serve_requests(*it->second, is_gone);
      if (is_gone) {
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
    look_after_sockets(boottime_now());
    host_->driving().step(boottime_now());
    bool idle = dirty_.empty() && (deaf || ear_.joinable() || host_->driving().watching());
    if (idle) {
      std::lock_guard ear(ear_mutex_);
      idle = heard_.empty() && arriving_.empty() && read_.empty();
    }
    if (idle) {
      (void)host_->driving().wait(lock, nullptr, Driving::kOneStep, after(boottime_now(), deaf ? kDeafSleep : kLongestSleep));
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
    auto program = std::make_unique<AgentProgram>(next_serial_++, fd);
    if (const int code = greet(*program, hello); code != 0) {
      AgentAnswer refusal;
      refusal.error = code;
      (void)send_answer(fd, refusal, {}, {}, MSG_DONTWAIT);
      ++counters_.refused_requests;
      continue;
    }
    ++counters_.programs_served;
    programs_.emplace(program->serial(), std::move(program));
  }
}

int Agent::greet(AgentProgram& program, const AgentCall& hello) {
  if (hello.version != kAgentProtocolVersion) return EPROTONOSUPPORT;
  const bool heir = (hello.flags & AgentCall::kHeir) != 0;
  const auto parent = programs_.find(hello.number);
  if (heir) {
    if (parent == programs_.end() || hello.token == 0 || parent->second->heirs_token() != hello.token) return ESRCH;
    parent->second->set_heirs_token(0);
    if (!may_inherit(*parent->second, parent->second->user())) return ENFILE;
  }
  AgentAnswer welcome;
  welcome.socket = program.serial();
  welcome.life = life_;
  put_text(welcome.host, host_->own_name());
  std::vector<std::byte> superblock(kMinBlockSize);
  encode_superblock(superblock, host_->superblock(), 0);
  welcome.tail_bytes = static_cast<std::uint32_t>(superblock.size());
  if (const int code = program.welcome(welcome, superblock, heir); code != 0) return code;
  if (const int code = program.watch(epoll_); code != 0) return code;
  if (heir) {
    program.inherit(*parent->second, [this](std::uint32_t number) -> AgentSocket* {
      const auto it = sockets_.find(number);
      return it != sockets_.end() && !it->second->closing ? it->second.get() : nullptr;
    });
  }
  return 0;
}

// Each hold costs memory and time here, and is of the parent's making.
bool Agent::may_inherit(const AgentProgram& parent, uid_t user) const {
  std::size_t held = parent.held();
  for (const auto& [serial, program] : programs_)
    if (program->user() == user) held += program->held();
  if (held > std::size_t{kHoldsForASocket} * settings_.most_sockets_of_a_user) return false;
  return std::ranges::none_of(parent.numbers(), [this](std::uint32_t number) {
    const auto it = sockets_.find(number);
    return it != sockets_.end() && it->second->holders.size() >= kMostHolders;
  });
}

// The program is gone: nothing of it stays but what others share, and whoever talks with it gets a reset.
void Agent::drop(AgentProgram& program) {
  const std::vector<std::uint32_t> numbers = program.numbers();
  for (const std::uint32_t number : numbers) {
    const auto it = sockets_.find(number);
    if (number == 0 || it == sockets_.end()) continue;
    AgentSocket& socket = *it->second;
    program.give_back(socket);
    // One that never began has used nothing: where another one closed in good order, that close is what happens.
    if (socket.holders.empty()) {
      end_held(socket, program.begun() || !socket.let_go);
    } else {
      if (program.begun()) socket.let_go = false;  // it died in the middle of something: whoever is last is not to make a good end of it
      look_again(socket);
    }
  }
  for (auto it = given_.begin(); it != given_.end();) {
    const auto [number, given] = *it++;
    if (given.taker != program.serial()) continue;
    given_.erase(number);
    end_held(*sockets_.at(number), true);
  }
  program.unwatch(epoll_);
  programs_.erase(program.serial());
}

// Nobody has it any more.
void Agent::end_held(AgentSocket& socket, bool abort) {
  if (!socket.closing) {
    if (!abort && socket.connected && !socket.over) {
      socket.program_side().ended.fetch_or(ShadowSide::kEnd, std::memory_order_seq_cst);
      socket.program_side().deaf.fetch_or(ShadowSide::kGone, std::memory_order_seq_cst);
    }
    close(socket, abort);
  }
  socket.forgotten = true;
  finish(socket);
}

// One that had it is gone, and may have been about to tell what it did.
void Agent::look_again(AgentSocket& socket) {
  if (!socket.local) return note(socket);
  if (const auto twin = sockets_.find(socket.twin); twin != sockets_.end()) tell_surely(*twin->second);
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
  if (socket.end.wake_other()) tell_on_boards(socket);
}

// Without asking whether it wants to hear: the marks of a local conversation are within reach of the other program.
void Agent::tell_surely(AgentSocket& socket) {
  ShadowEnd::wake(socket.program_side());
  tell_on_boards(socket);
}

void Agent::tell_on_boards(const AgentSocket& socket) {
  for (const AgentSocket::Holder& held : socket.holders)
    if (const auto it = programs_.find(held.program); it != programs_.end()) it->second->tell(held.index);
}

void Agent::take_news(AgentProgram& program) {
  program.take_news([&](std::uint32_t number) {
    const auto it = sockets_.find(number);
    if (it == sockets_.end()) return;
    AgentSocket& socket = *it->second;
    if (!socket.local) return note(socket);
    // It took off the other's mark, and asks that the other be told.
    const auto twin = sockets_.find(socket.twin);
    if (twin != sockets_.end()) tell_on_boards(*twin->second);
  });
}

void Agent::update_queued(AgentSocket& listener) {
  const auto bits = host_->engine().ready(listener.engine_id);
  listener.remote_waits = bits && (*bits & Ready::kRead) != 0;
  listener.program_side().queued.store(static_cast<std::uint32_t>(listener.queue.size()) + (listener.remote_waits ? 1 : 0), std::memory_order_release);
  tell(listener);
}

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
      engine.renew(socket.engine_id);  // it may bind, listen, and connect again
      end_with(socket, error);
    } else {
      socket.connected = true;
      socket.peer_host = info->peer.host;
      socket.peer_port = info->peer.port;
      socket.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
    }
    tell(socket);
  }
  if (socket.connected && !socket.over && !socket.engine_closed) {
    // Asked for first: whatever the program does from here on is told, and whatever it did before is seen below. Not of a socket that waits
    // for its turn in the line, and will be looked at then. Of one that is closed the engine is to have all before this agent may end.
    const bool in_line = !socket.closing && engine.waits_in_line(socket.engine_id);
    if (!in_line) socket.end.want_news();
    if (socket.end.broken() || socket.end.readable() < socket.lent) {
      engine.stop_reading(socket.engine_id, true, boottime_now());
      engine.close(socket.engine_id, true, boottime_now());
      socket.engine_closed = true;
      end_with(socket, {ECONNRESET, Reason::kProtocol});
      tell(socket);
      return finish(socket);
    }
    take_shut_reading(socket);
    Moved in;
    if (socket.read_shut) in.error = look_unread(engine, socket);  // ahead of sending, which would be told instead
    const std::uint32_t ended = socket.end.ended();
    const Moved out = move_out(engine, socket, in_line);
    counters_.bytes_sent += out.bytes;
    if ((ended & ShadowSide::kEnd) != 0 && !socket.closing && !socket.end_sent && out.error.code == 0 && socket.unmoved() == 0) {
      socket.end_sent = true;
      (void)engine.shut(socket.engine_id, false, true, boottime_now());
    }
    if (!socket.closing && !socket.read_shut) {
      in = move_in(engine, socket);
      // What arrived does not wait for the line.
      if (in_line && !in.stopped && in.bytes < kMoveAtOnce) {
        socket.end.want_news();
        if (!socket.end.next_room().empty()) note(socket);
      }
    }
    counters_.bytes_received += in.bytes;
    // What arrived ahead of a failure is the program's first.
    const bool all_given = in.stopped || socket.closing || socket.read_shut;
    SocketError error = in.error;
    if (error.code == 0 && all_given) error = out.error;
    // The program is told even of a reset that stands in the way of nothing, since all was read and nothing is there to be sent.
    if (error.code == 0 && all_given) error = engine.take_error(socket.engine_id);
    if (error.code != 0) end_with(socket, error);
    const bool more_out = out.bytes >= kMoveAtOnce, more_in = in.bytes >= kMoveAtOnce;
    if ((more_out || more_in) && !socket.over) note(socket);
    tell(socket);
  }
  finish(socket);
}

// -- Ends ----------------------------------------------------------------------------------------------------------

// What comes to a program that has shut its reading is dropped, by its own wish.
void Agent::take_shut_reading(AgentSocket& socket) {
  if ((socket.end.deaf() & ShadowSide::kDrops) != 0 && !std::exchange(socket.read_shut, true))
    (void)host_->engine().shut(socket.engine_id, true, false, boottime_now());
}

// The program reads nothing any more, and the peer is to learn what it left unread.
void Agent::stop_reading(AgentSocket& socket) {
  if (!socket.connected || socket.local || socket.over) return;
  take_shut_reading(socket);
  host_->engine().stop_reading(socket.engine_id, socket.end.unread() > 0 && !socket.read_shut, boottime_now());
}

void Agent::finish(AgentSocket& socket) {
  if (!socket.closing) return;
  // Between two programs here what was sent lies in the receiver's shadow already. The receiver may have closed in the very moment of it.
  if (socket.local && !socket.drained && (socket.end.mine().deaf.load(std::memory_order_seq_cst) & (ShadowSide::kGone | ShadowSide::kDrops)) == ShadowSide::kGone)
    socket.lost |= socket.unmoved() > 0;
  const bool all_out = socket.local || socket.over || !socket.connected || socket.unmoved() == 0;
  if (socket.engine_id != 0 && !socket.engine_closed && all_out) {
    socket.lost |= !socket.local && socket.over && socket.unmoved() > 0;
    socket.engine_closed = true;
    host_->engine().close(socket.engine_id, false, boottime_now());
  }
  if (socket.engine_id == 0) socket.drained = true;
  if (socket.engine_id != 0 && socket.engine_closed && !host_->engine().closing(socket.engine_id)) socket.drained = true;
  if (!socket.drained) return;
  socket.program_side().state.fetch_or(ShadowSide::kDrained | (socket.lost ? ShadowSide::kLost : 0), std::memory_order_release);
  tell(socket);
  if (socket.forgotten) destroy(socket);
}

void Agent::destroy(AgentSocket& socket) {
  while (!socket.holders.empty()) {
    const auto it = programs_.find(socket.holders.back().program);
    if (it == programs_.end())
      socket.holders.pop_back();
    else
      it->second->give_back(socket);
  }
  given_.erase(socket.number);
  by_engine_id_.erase(socket.engine_id);
  closing_.erase(socket.number);
  discount_socket_of(socket.user);
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
  closing_[socket.number] = {.left = socket.unmoved(), .since = boottime_now()};
  if (socket.listening) close_listener(socket);
  if (socket.local) {
    // The program has ended its side itself; one that died could not.
    ShadowSide& side = socket.program_side();
    side.ended.fetch_or(abort ? ShadowSide::kReset : ShadowSide::kEnd, std::memory_order_seq_cst);
    side.deaf.fetch_or(ShadowSide::kGone, std::memory_order_seq_cst);
    if (const auto twin = sockets_.find(socket.twin); twin != sockets_.end()) {
      twin->second->twin = 0;
      show(*twin->second);
      const bool connected = (twin->second->program_side().state.load() & ShadowSide::kConnected) != 0;
      if (!connected) end_with(*twin->second, {ECONNREFUSED, Reason::kListenerClosed});  // it waits for an accept that will not come
      tell_surely(*twin->second);
    }
  }
  stop_reading(socket);
  if (abort && socket.engine_id != 0 && !socket.engine_closed) {
    socket.engine_closed = true;
    host_->engine().close(socket.engine_id, true, boottime_now());
  }
  note(socket);
}

void Agent::look_after_sockets(Nanos now) {
  if (now < next_look_) return;
  next_look_ = now + kLookPeriod;
  give_up_stuck_closes(now);
  give_up_untaken(now);
}

void Agent::give_up_untaken(Nanos now) {
  for (auto it = given_.begin(); it != given_.end();) {
    const auto [number, given] = *it++;
    if (now - given.since < settings_.given_for) continue;
    given_.erase(number);
    end_held(*sockets_.at(number), true);
  }
}

// A closed socket whose peer takes nothing must not be kept for as long as that peer lives.
void Agent::give_up_stuck_closes(Nanos now) {
  for (auto& [number, progress] : closing_) {
    const auto it = sockets_.find(number);
    if (it == sockets_.end() || it->second->engine_closed || it->second->engine_id == 0) continue;
    AgentSocket& socket = *it->second;
    const std::uint64_t left = socket.unmoved();
    if (left != progress.left) progress = {.left = left, .since = now};
    if (now - progress.since < host_->patience()) continue;
    socket.engine_closed = true;
    socket.lost = true;
    host_->engine().close(socket.engine_id, true, now);
    note(socket);
  }
}

}  // namespace stp::host
