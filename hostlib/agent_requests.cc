// What the agent does when a program asks for it.

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "hostlib/agent.h"
#include "hostlib/host_list.h"
#include "hostlib/own_address.h"
#include "stp/system.h"

namespace stp::host {
namespace {

constexpr int kRequestsAtOnce = 64;           // of one program
constexpr int kLastRequests = 4096;           // of one that is gone: more than lie in a socket
constexpr std::uint16_t kFirstFreePort = 1024;   // those below are root's

// Those that do not are answered for any program.
bool concerns_a_socket(AgentRequest what) {
  switch (what) {
    case AgentRequest::kOpen:
    case AgentRequest::kView:
    case AgentRequest::kLook:
    case AgentRequest::kStats:
    case AgentRequest::kSockets:
    case AgentRequest::kRead:
    case AgentRequest::kTake:
    case AgentRequest::kFork:
    case AgentRequest::kBegin: return false;
    default: return true;
  }
}

// The socket for a program: its shadow, and where in that what lies.
void add_shadow(const AgentSocket& socket, AgentAnswer& answer, std::vector<int>& fds) {
  answer.socket = socket.number;
  answer.side = static_cast<std::uint32_t>(1 - socket.end.side());
  answer.bytes = socket.end.memory()->header_at();
  fds.push_back(socket.end.memory()->fd());
}

}  // namespace

// What a program that is gone had said before is done all the same: closes, above all, of which it has not waited for any.
void Agent::serve_requests(AgentProgram& program, bool is_gone) {
  const int most = is_gone ? kLastRequests : kRequestsAtOnce;
  for (int i = 0; i < most; ++i) {
    AgentCall call;
    const int code = receive_call(program.fd(), call, MSG_DONTWAIT);
    if (code == EAGAIN) return;
    if (code != 0) {
      if (code == EPROTO) log(fmt::format("program {} (user {}) sent what is no request: its connection is closed", program.pid(), program.user()));
      return drop(program);
    }
    answer(program, call);
  }
  // More may wait, and the ear is told of changes only.
  std::lock_guard ear(ear_mutex_);
  heard_.insert(program.serial());
}

AgentSocket* Agent::find(AgentProgram& program, std::uint32_t number) {
  const auto it = sockets_.find(number);
  return it != sockets_.end() && it->second->holder(program.serial()) != nullptr ? it->second.get() : nullptr;
}

void Agent::answer(AgentProgram& program, const AgentCall& call) {
  AgentAnswer answer;
  std::vector<int> fds;
  std::vector<std::byte> tail;
  SocketResult<void> done;
  AgentSocket* const socket = find(program, call.socket);
  const bool of_socket = concerns_a_socket(call.what);
  if (of_socket && (socket == nullptr || (socket->closing && call.what != AgentRequest::kForget))) {
    done = no(EBADF);
  } else {
    switch (call.what) {
      case AgentRequest::kOpen: done = open(program, answer, fds); break;
      case AgentRequest::kBind: done = bind(program, *socket, call.number, answer); break;
      case AgentRequest::kListen: done = listen(*socket, call.number, answer); break;
      case AgentRequest::kAccept: done = accept(program, *socket, answer, fds); break;
      case AgentRequest::kConnect:
        done = connect(*socket, call, answer);
        host_->driving().step(boottime_now());  // the peer takes longer to answer than the program, who waits for both
        break;
      case AgentRequest::kClose:
        close(*socket, (call.flags & AgentCall::kAbort) != 0);
        finish(*socket);
        break;
      case AgentRequest::kForget:
        socket->forgotten = true;
        finish(*socket);
        break;
      case AgentRequest::kGive: done = give(program, *socket, call); break;
      case AgentRequest::kTake: done = take(program, call, answer, fds); break;
      case AgentRequest::kLetGo:
        answer.local = socket->holders.size() > 1 ? 1 : 0;
        if (answer.local == 0) break;
        socket->let_go = true;
        program.give_back(*socket);
        look_again(*socket);
        break;
      case AgentRequest::kBegin:
        if (program.begun())
          done = no(EINVAL);
        else
          program.begin(static_cast<pid_t>(call.number));
        break;
      case AgentRequest::kNudge: tell_surely(*socket); break;
      case AgentRequest::kFork:
        while ((answer.bytes = random_.next()) == 0) {
        }
        program.set_heirs_token(answer.bytes);
        break;
      case AgentRequest::kInfo:
        describe(*socket, answer);
        if (socket->engine_id != 0 && !socket->local) {
          const auto info = host_->engine().info(socket->engine_id);
          answer.bytes = socket->unmoved() + (info ? info->unacknowledged_bytes : 0);
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
      case AgentRequest::kSockets: tail = list_sockets(program, call.number, answer); break;
      case AgentRequest::kStats: {
        const AgentStats stats = stats_now();
        const auto* bytes = reinterpret_cast<const std::byte*>(&stats);
        tail.assign(bytes, bytes + sizeof stats);
        break;
      }
      case AgentRequest::kLook: host_->look_at_leases_now(); break;
      case AgentRequest::kRead: {
        const int code = reader_->ask({.program = program.serial(), .trusted = program.user() == 0, .first = call.token, .blocks = call.number});
        if (code == 0) return;  // answered by hand_out_reads()
        done = no(code);
        break;
      }
      case AgentRequest::kHello: done = no(EPROTO); break;
      default: done = no(EOPNOTSUPP, Reason::kNotYet); break;
    }
  }
  if (!done) {
    answer.error = done.error().code;
    answer.reason = static_cast<std::uint32_t>(done.error().reason);
    ++counters_.refused_requests;
  }
  if (has_answer(call)) send(program, answer, fds, tail);
}

void Agent::hand_out_reads() {
  std::vector<AgentReader::Done> read;
  {
    std::lock_guard ear(ear_mutex_);
    read.swap(read_);
  }
  for (const AgentReader::Done& done : read) {
    const auto program = programs_.find(done.program);
    if (program == programs_.end()) continue;
    AgentAnswer answer;
    answer.error = done.error;
    if (done.error != 0) ++counters_.refused_requests;
    send(*program->second, answer, {}, done.bytes);
  }
}

void Agent::send(AgentProgram& program, AgentAnswer& answer, std::span<const int> fds, ConstBytes tail) {
  answer.tail_bytes = static_cast<std::uint32_t>(tail.size());
  // One request, one answer: a program that does not take its answers has no room for more, and loses its connection.
  if (send_answer(program.fd(), answer, fds, tail, MSG_DONTWAIT) != 0) {
    std::lock_guard ear(ear_mutex_);
    hung_up_.insert(program.serial());
    heard_.insert(program.serial());
  }
}

SocketResult<void> Agent::has_room_for_one_more(uid_t user) {
  const auto found = use_of_user_.find(user);
  if (found == use_of_user_.end()) return {};
  UseOfUser& use = found->second;
  if (use.sockets >= settings_.most_sockets_of_a_user) return no(ENFILE, Reason::kNoSockets);
  const std::uint64_t at_most = std::uint64_t{use.sockets} * ShadowMemory::whole_size(settings_.ring_bytes);
  if (at_most <= settings_.most_memory_of_a_user) return {};
  if (const Nanos now = boottime_now(); use.measured_at == 0 || now - use.measured_at >= kSecond) {
    use.memory = memory_of(user);
    use.measured_at = now;
  }
  if (use.memory > settings_.most_memory_of_a_user) return no(ENOBUFS, Reason::kNoMemory);
  return {};
}

// Of the rings what was touched. The two ends of a local conversation have one memory between them: it is counted where it was made.
std::uint64_t Agent::memory_of(uid_t user) const {
  std::uint64_t bytes = 0;
  for (const auto& [number, socket] : sockets_)
    if (socket->user == user && (!socket->local || socket->end.side() == 1 || socket->twin == 0)) bytes += socket->end.memory()->touched_bytes();
  return bytes;
}

void Agent::count_socket_of(uid_t user) { ++use_of_user_[user].sockets; }

void Agent::discount_socket_of(uid_t user) {
  if (const auto use = use_of_user_.find(user); use != use_of_user_.end() && --use->second.sockets == 0) use_of_user_.erase(use);
}

SocketResult<AgentSocket*> Agent::new_socket(uid_t user, std::shared_ptr<ShadowMemory> memory, int program_side) {
  if (auto room = has_room_for_one_more(user); !room) return std::unexpected(room.error());
  auto socket = std::make_unique<AgentSocket>();
  while (next_number_ == 0 || sockets_.contains(next_number_)) ++next_number_;
  socket->number = next_number_++;
  socket->user = user;
  socket->end = ShadowEnd(std::move(memory), 1 - program_side);
  count_socket_of(user);
  AgentSocket* const made = socket.get();
  sockets_.emplace(made->number, std::move(socket));
  return made;
}

SocketResult<void> Agent::open(AgentProgram& program, AgentAnswer& answer, std::vector<int>& fds) {
  if (!program.has_room()) return no(ENFILE, Reason::kNoSockets);
  auto memory = ShadowMemory::create(settings_.ring_bytes);
  if (!memory) return no(memory.error());
  auto made = new_socket(program.user(), *memory, 0);
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
  answer.index = program.take(socket);
  ++counters_.sockets_opened;
  const auto info = host_->engine().info(*id);
  answer.scb = info ? info->scb : kNoScb;
  add_shadow(socket, answer, fds);
  return {};
}

SocketResult<void> Agent::bind(AgentProgram& program, AgentSocket& socket, std::uint32_t port, AgentAnswer& answer) {
  if (port > 0xffff || socket.connected || socket.connecting) return no(EINVAL);
  if (port != 0 && port < kFirstFreePort && program.user() != 0) return no(EACCES);
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
  socket.program_side().state.fetch_and(~ShadowSide::kOver, std::memory_order_release);  // of an attempt to connect before
  socket.over = false;
  socket.listening = true;
  socket.backlog = std::clamp(backlog, 1u, 4096u);
  listeners_[socket.port] = &socket;
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
  if (!settings_.local_over_disk && is_own_name(peer.host, *host_)) {
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
  if (socket.port == 0) {
    const auto bound = host_->engine().bind(socket.engine_id, 0);
    if (!bound) return no(EADDRNOTAVAIL, bound.error().reason);
    socket.port = *bound;
  }
  auto made = new_socket(listener.user, socket.end.memory(), 1);
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
  // The other end's place in the socket table is for those who look: without one there it talks all the same.
  if (const auto id = host_->engine().open_to_show(boottime_now()); id) {
    other.engine_id = *id;
    by_engine_id_[*id] = &other;
  }
  for (AgentSocket* end : {&socket, &other}) show(*end);
  ++counters_.local_connects;
  answer.port = socket.port;
  answer.local = 1;
  update_queued(listener);
  return {};
}

// In the socket table on the disk; from a remote peer the engine itself shows it.
void Agent::show(const AgentSocket& socket) {
  if (!socket.local || socket.engine_id == 0 || socket.engine_closed) return;
  using State = LocalConversation::State;
  const State state = socket.listener != 0 ? State::kQueued : socket.twin == 0 ? State::kClosing : State::kEstablished;
  host_->engine().show(socket.engine_id, {.port = socket.port, .peer_port = socket.peer_port, .initiator = socket.end.side() == 1, .state = state});
}

SocketResult<void> Agent::accept(AgentProgram& program, AgentSocket& listener, AgentAnswer& answer, std::vector<int>& fds) {
  if (!listener.listening) return no(EINVAL);
  const auto hand_out = [&](AgentSocket& socket) {
    ++counters_.accepts;
    describe(socket, answer);
    add_shadow(socket, answer, fds);
  };
  const bool here_first = !listener.queue.empty() && !(listener.remote_next && listener.remote_waits);
  if (here_first) {
    AgentSocket& socket = *sockets_.at(listener.queue.front());
    if (!program.has_room()) return no(ENFILE, Reason::kNoSockets);
    answer.index = program.take(socket);
    listener.queue.pop_front();
    listener.remote_next = true;
    socket.listener = 0;
    const auto info = socket.engine_id != 0 ? host_->engine().info(socket.engine_id) : no(EBADF);
    answer.scb = info ? info->scb : kNoScb;
    hand_out(socket);
    show(socket);
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
  if (!program.has_room()) return no(ENFILE, Reason::kNoSockets);
  if (auto room = has_room_for_one_more(program.user()); !room) return room;
  auto memory = ShadowMemory::create(settings_.ring_bytes);
  if (!memory) return no(memory.error());
  const auto id = host_->engine().accept(listener.engine_id, boottime_now());
  if (!id) {
    update_queued(listener);
    return std::unexpected(id.error());
  }
  auto made = new_socket(program.user(), *memory, 0);
  if (!made) {
    host_->engine().close(*id, true, boottime_now());
    update_queued(listener);
    return std::unexpected(made.error());
  }
  AgentSocket& socket = **made;
  answer.index = program.take(socket);
  const auto info = host_->engine().info(*id);
  socket.engine_id = *id;
  by_engine_id_[*id] = &socket;
  socket.connected = true;
  socket.port = listener.port;
  socket.peer_host = info ? info->peer.host : "";
  socket.peer_port = info ? info->peer.port : 0;
  socket.program_side().state.fetch_or(ShadowSide::kConnected, std::memory_order_release);
  answer.scb = info ? info->scb : kNoScb;
  hand_out(socket);
  note(socket);
  update_queued(listener);
  return {};
}

void Agent::describe(const AgentSocket& socket, AgentAnswer& answer) {
  put_text(answer.host, socket.peer_host);
  answer.port = socket.port;
  answer.peer_port = socket.peer_port;
  answer.local = socket.local ? 1 : 0;
  answer.backlog = socket.backlog;
  answer.kind = socket.listening ? AgentAnswer::kListener : socket.connecting || socket.connected || socket.over ? AgentAnswer::kSession : AgentAnswer::kPlain;
}

// From here on the agent holds it: what arrives lies in the shadow, for the taker.
SocketResult<void> Agent::give(AgentProgram& program, AgentSocket& socket, const AgentCall& call) {
  const bool back = (call.flags & AgentCall::kPutBack) != 0;
  if (back && socket.taken_by != program.serial()) return no(EINVAL);
  if (call.token != life_ || (!back && call.number != 0 && !programs_.contains(call.number))) return no(ESRCH, Reason::kNoTaker);
  if (socket.holders.size() > 1) return no(EBUSY, Reason::kShared);
  if (!socket.listening && !socket.connecting && !socket.connected) return no(ENOTCONN);
  program.give_back(socket);
  // One that was taken and could not be used waits again for those that it was given to.
  if (!back) {
    socket.given_by = program.serial();
    socket.given_as = call.descriptor;
    socket.given_to = call.number;
  }
  socket.taken_by = 0;
  given_[socket.number] = {
      .giver = socket.given_by, .descriptor = socket.given_as, .taker = socket.given_to, .user = program.user(), .since = boottime_now()};
  look_again(socket);
  return {};
}

SocketResult<void> Agent::take(AgentProgram& program, const AgentCall& call, AgentAnswer& answer, std::vector<int>& fds) {
  if (call.token != life_) return no(ESRCH, Reason::kNotGiven);
  // The giver may have closed its number and used it again: who may take several under one number gets the oldest.
  bool others = false;
  auto it = given_.end();
  for (auto each = given_.begin(); each != given_.end(); ++each) {
    const Given& given = each->second;
    if (given.giver != call.number || given.descriptor != call.socket) continue;
    const bool mine = given.taker != 0 ? given.taker == program.serial() : given.user == program.user();
    others |= !mine;
    if (mine && (it == given_.end() || given.since < it->second.since)) it = each;
  }
  if (it == given_.end()) return no(others ? EACCES : ENOENT, Reason::kNotGiven);
  if (!program.has_room()) return no(ENFILE, Reason::kNoSockets);
  AgentSocket& socket = *sockets_.at(it->first);
  if (socket.user != program.user()) {
    if (auto room = has_room_for_one_more(program.user()); !room) return room;
    count_socket_of(program.user());
    discount_socket_of(socket.user);
    socket.user = program.user();
  }
  given_.erase(it);
  socket.taken_by = program.serial();
  answer.index = program.take(socket);
  const auto info = socket.engine_id != 0 ? host_->engine().info(socket.engine_id) : no(EBADF);
  answer.scb = info ? info->scb : kNoScb;
  describe(socket, answer);
  add_shadow(socket, answer, fds);
  look_again(socket);
  ++counters_.sockets_handed_over;
  return {};
}

}  // namespace stp::host