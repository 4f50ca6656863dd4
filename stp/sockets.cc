#include "stp/sockets.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace stp {
namespace {

constexpr std::uint32_t kMostBacklog = 4096;
// What all streams together need to keep a fast device busy. Where several stream, more would only leave the processor's cache (and
// the page tables) behind: each may hold its part of it, and never less than two extents.
constexpr std::uint64_t kWorkingSet = 8u << 20;
constexpr std::uint64_t kLeastShare = 512 * 1024;
constexpr Nanos kSharingPeriod = 50 * kMillisecond;

}  // namespace

Sockets::Sockets(Core& core, Peers& peers, EngineEvents& events)
    : core_(core),
      peers_(peers),
      events_(events),
      table_(core),
      ports_(core),
      cache_(core),
      bulk_(core),
      receive_budget_(core.config.receive_budget_bytes),
      send_budget_(core.config.send_budget_bytes),
      talkers_(core.geometry().hosts),
      emitted_(core.geometry().hosts) {
  send_budget_.set_working_set(kWorkingSet, kLeastShare);
}

Socket* Sockets::find(SocketId id) const {
  const auto it = sockets_.find(id);
  return it == sockets_.end() ? nullptr : it->second.get();
}

SocketResult<SocketId> Sockets::open() {
  const std::uint32_t scb = table_.take();
  if (scb == SocketTable::kNone) return no(ENFILE, Reason::kNoSockets);
  while (next_id_ == 0 || sockets_.contains(next_id_)) ++next_id_;
  auto socket = std::make_unique<Socket>();
  socket->id = next_id_++;
  socket->scb = scb;
  socket->send_buffer = core_.config.send_buffer_bytes;
  socket->window = core_.config.window_bytes;
  socket->made_ms = core_.config.wall_clock_ms + static_cast<std::uint64_t>(core_.now / kMillisecond);
  const SocketId id = socket->id;
  write_scb(*socket, true);
  sockets_.emplace(id, std::move(socket));
  return id;
}

SocketResult<void> Sockets::take_port(Socket& socket, std::uint16_t port) {
  if (port == 0) port = ports_.find_free();
  if (port == 0) return no(EADDRINUSE, Reason::kNoPorts);
  if (ports_.taken(port)) return no(EADDRINUSE, Reason::kPortInUse);
  socket.port = port;
  socket.owns_port = true;
  ports_.set(port, PortState::kBound, socket.scb);
  return {};
}

SocketResult<std::uint16_t> Sockets::bind(SocketId id, std::uint16_t port) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->port != 0 || s->kind != Socket::Kind::kPlain) return no(EINVAL);
  if (auto ok = take_port(*s, port); !ok) return std::unexpected(ok.error());
  write_scb(*s, true);
  return s->port;
}

SocketResult<void> Sockets::listen(SocketId id, std::uint32_t backlog) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->kind == Socket::Kind::kSession) return no(EINVAL);
  if (s->port == 0)
    if (auto ok = take_port(*s, 0); !ok) return ok;
  s->backlog = std::clamp(backlog, 1u, kMostBacklog);
  if (s->kind == Socket::Kind::kListener) return {};
  s->kind = Socket::Kind::kListener;
  listeners_[s->port] = id;
  ports_.set(s->port, PortState::kListening, s->scb);
  write_scb(*s, true);
  return {};
}

SocketResult<SocketId> Sockets::accept(SocketId id) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->kind != Socket::Kind::kListener) return no(EINVAL);
  if (s->queue.empty()) return no(EAGAIN);
  const SocketId next = s->queue.front();
  s->queue.pop_front();
  s->ready = ready_bits(*s);
  Socket& session = *find(next);
  session.listener = 0;
  session.accepted = true;
  if (session.tell_accepted && session.phase == Socket::Phase::kEstablished) session.open_ack_due = true;
  write_scb(session, true);
  touch(session);
  return next;
}

SocketResult<void> Sockets::connect(SocketId id, const Address& peer, bool wait_for_accept) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->kind == Socket::Kind::kListener) return no(EOPNOTSUPP);
  if (s->was_established) return no(EISCONN);
  if (s->phase == Socket::Phase::kOpening) return no(EALREADY);
  if (peer.port == 0) return no(ECONNREFUSED, Reason::kNoListener);
  if (!peer.stg.empty() && peer.stg != core_.superblock().stg) return no(ENETUNREACH, Reason::kOtherStg);
  auto instances = peers_.find_host(peer.host);
  if (!instances) return std::unexpected(instances.error());
  if (s->port == 0)
    if (auto ok = take_port(*s, 0); !ok) return no(EADDRNOTAVAIL, ok.error().reason);
  s->peer_port = peer.port;
  s->wait_for_accept = wait_for_accept;
  s->instances = std::move(*instances);
  s->error = {};
  s->error_taken = s->send_shut = s->lost = false;
  open_next_instance(*s);
  return no(EINPROGRESS);
}

SocketResult<std::size_t> Sockets::send(SocketId id, ConstBytes data, const Loan* loan) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->phase == Socket::Phase::kOver) {
    if (s->error_taken) return no(EPIPE, s->error.reason);
    s->error_taken = true;
    return no(s->error.code, s->error.reason);
  }
  if (s->phase == Socket::Phase::kOpening) return no(EAGAIN);
  if (s->phase != Socket::Phase::kEstablished) return no(ENOTCONN);
  if (s->send_shut) return no(EPIPE);
  if (data.empty()) return std::size_t{0};
  const std::size_t n = loan != nullptr ? s->tx->take_lent(data, *loan) : s->tx->take(data);
  if (n == 0 && (loan == nullptr || s->tx->room() == 0)) {
    s->ready &= ~Ready::kWrite;  // so that the next room is news
    note_no_room(*s);
    return no(EAGAIN, Reason::kSendBufferFull);
  }
  if (s->tx->room() == 0) {
    s->ready &= ~Ready::kWrite;
    note_no_room(*s);
  }
  touch(*s);
  return n;
}

std::uint64_t Sockets::lent(SocketId id) const {
  const Socket* s = find(id);
  return s != nullptr && s->tx != nullptr ? s->tx->lent() : 0;
}

bool Sockets::stands_in_line(const Socket& s) { return s.phase == Socket::Phase::kEstablished && s.talking && s.tx->has_urgent_messages(); }

bool Sockets::waits_in_line(SocketId id) {
  Socket* const s = find(id);
  const bool waits = s != nullptr && stands_in_line(*s) && talkers_[s->peer].size() > core_.config.long_line;
  if (waits) s->asked_in_line = true;
  return waits;
}

void Sockets::land_in(SocketId id, std::shared_ptr<Landing> landing) {
  if (Socket* s = find(id); s != nullptr && s->rx != nullptr) s->rx->land_in(std::move(landing));
}

SocketResult<std::size_t> Sockets::receive(SocketId id, Bytes into, bool peek) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->kind != Socket::Kind::kSession || s->rx == nullptr) {
    if (s->phase == Socket::Phase::kOver && !s->error_taken) {
      s->error_taken = true;
      return no(s->error.code, s->error.reason);
    }
    return no(ENOTCONN);
  }
  if (s->phase == Socket::Phase::kOpening) return no(EAGAIN);
  if (into.empty()) return std::size_t{0};
  if (s->rx->readable() > 0 && !s->rx->discarding()) {
    const std::size_t n = s->rx->read(into, peek);
    if (!peek) {
      s->ready &= ready_bits(*s);  // what has become true is for touch() to tell
      peers_.warm(s->peer);
      touch(*s);
    }
    return n;
  }
  const bool told = s->phase != Socket::Phase::kOver || s->error_taken;
  if (s->rx->at_end() || (s->rx->discarding() && told)) return std::size_t{0};
  if (s->phase == Socket::Phase::kOver) {
    s->error_taken = true;
    return no(s->error.code, s->error.reason);
  }
  return no(EAGAIN);
}

SocketResult<void> Sockets::shut(SocketId id, bool read, bool write) {
  Socket* s = find(id);
  if (s == nullptr || s->closed) return no(EBADF);
  if (s->phase != Socket::Phase::kEstablished) return no(ENOTCONN);
  if (read) s->rx->discard();
  if (write && !s->send_shut) {
    s->send_shut = true;
    s->tx->finish();
  }
  write_scb(*s, true);
  touch(*s);
  return {};
}

void Sockets::close(SocketId id, bool abort) {
  Socket* s = find(id);
  if (s == nullptr || (s->closed && !abort)) return;
  const bool again = std::exchange(s->closed, true);
  if (s->kind == Socket::Kind::kListener) {
    listeners_.erase(s->port);
    for (const SocketId queued : std::exchange(s->queue, {})) {
      Socket& waiting = *find(queued);
      waiting.listener = 0;
      waiting.closed = true;
      if (waiting.phase == Socket::Phase::kEstablished) reset(waiting, ECONNABORTED, Reason::kListenerClosed, Reason::kListenerClosed);
      destroy(waiting);
    }
    destroy(*s);
    return;
  }
  if (s->phase == Socket::Phase::kOpening) reset(*s, ECONNABORTED, Reason::kAborted, Reason::kAborted);
  if (s->phase != Socket::Phase::kEstablished) {
    destroy(*s);
    return;
  }
  // Where both directions have come to their end there is nothing left to abort.
  if (abort && (again || !s->both_ended())) {
    reset(*s, ECONNABORTED, Reason::kAborted, Reason::kAborted);
    destroy(*s);
    return;
  }
  drop_the_rest(*s);
  s->send_shut = true;
  s->tx->finish();
  arm_close_timeout(id, s->tx->acked());
  write_scb(*s, true);
  touch(*s);
}

void Sockets::stop_reading(SocketId id, bool left_unread) {
  Socket* s = find(id);
  if (s == nullptr || s->phase != Socket::Phase::kEstablished) return;
  s->left_unread |= left_unread;
  drop_the_rest(*s);
  touch(*s);
}

void Sockets::drop_the_rest(Socket& s) {
  if (std::exchange(s.stopped_reading, true)) return;
  s.dropped_before = s.rx->dropped();
  s.rx->discard();
}

bool Sockets::closing(SocketId id) const {
  const Socket* s = find(id);
  return s != nullptr && s->closed && !s->drained_told;
}

SocketResult<SocketInfo> Sockets::info(SocketId id) const {
  const Socket* s = find(id);
  if (s == nullptr) return no(EBADF);
  SocketInfo out;
  out.state = scb_state(*s);
  out.scb = s->scb;
  out.ready = ready_bits(*s);
  out.local = {peers_.my_name(), core_.superblock().stg, s->port};
  out.peer = peer(id);
  if (!s->error_taken && s->phase != Socket::Phase::kOpening) out.error = s->error;
  if (s->rx) out.readable_bytes = s->rx->discarding() ? 0 : s->rx->readable();
  if (s->tx) out.unacknowledged_bytes = s->tx->accepted() - s->tx->acked();
  return out;
}

bool Sockets::connect_ended(SocketId id) const {
  const Socket* s = find(id);
  return s == nullptr || (ready_bits(*s) & Ready::kConnect) != 0;
}

Address Sockets::peer(SocketId id) const {
  const Socket* s = find(id);
  if (s == nullptr || s->kind != Socket::Kind::kSession) return {};
  return {s->peer_name, core_.superblock().stg, s->peer_port};
}

SocketResult<std::uint32_t> Sockets::ready(SocketId id) {
  Socket* s = find(id);
  if (s == nullptr) return no(EBADF);
  tell_ready(*s, false);  // who asks is not the only one who may wait for it
  std::uint32_t bits = s->ready;
  if (s->phase == Socket::Phase::kEstablished && (bits & Ready::kWrite) == 0) note_no_room(*s);
  if (s->kind == Socket::Kind::kPlain && s->phase == Socket::Phase::kNone) bits |= Ready::kWrite | Ready::kHangUp;
  if (s->phase == Socket::Phase::kOver && s->error.code != 0 && !s->error_taken) bits |= Ready::kError;
  const bool established = s->phase == Socket::Phase::kEstablished;
  if (s->phase == Socket::Phase::kOver || (established && s->gets_no_more())) bits |= Ready::kPeerEnded;
  return bits;
}

SocketError Sockets::take_error(SocketId id) {
  Socket* s = find(id);
  if (s == nullptr || s->error_taken || s->phase == Socket::Phase::kOpening) return {};
  s->error_taken = s->error.code != 0;
  return s->error;
}

void Sockets::renew(SocketId id) {
  Socket* s = find(id);
  if (s == nullptr || s->closed || s->phase != Socket::Phase::kOver || s->was_established) return;
  s->kind = Socket::Kind::kPlain;
  s->phase = Socket::Phase::kNone;
  s->error = {};
  s->error_taken = false;
  if (s->rx) s->rx->abandon();
  s->rx.reset();
  s->tx.reset();
  s->ready = 0;
  write_scb(*s, true);
}

void Sockets::set_send_buffer(SocketId id, std::uint32_t bytes) {
  Socket* s = find(id);
  if (s == nullptr) return;
  s->send_buffer = std::clamp(bytes, 4096u, 64u << 20);
  if (!s->tx) return;
  s->tx->set_buffer(s->send_buffer);
  tell_ready(*s, false);
}

SocketResult<SocketId> Sockets::open_to_show() {
  if (sockets_.size() >= core_.geometry().sockets / 4 * 3) return no(ENFILE, Reason::kNoSockets);
  return open();
}

void Sockets::show(SocketId id, const LocalConversation& conversation) {
  Socket* s = find(id);
  // One that tried a host before, in vain, is a session that is over.
  if (s == nullptr || s->kind == Socket::Kind::kListener || s->phase == Socket::Phase::kOpening || s->phase == Socket::Phase::kEstablished) return;
  s->local = conversation;
  write_scb(*s, true);
}

void Sockets::set_receive_window(SocketId id, std::uint32_t bytes) {
  Socket* s = find(id);
  if (s == nullptr) return;
  s->window = std::clamp(bytes, ReceiveStream::kFloorWindow, 64u << 20);
  if (s->rx) s->rx->set_most_window(s->window);
}

std::uint32_t Sockets::ready_bits(const Socket& s) const {
  std::uint32_t bits = 0;
  if (s.kind == Socket::Kind::kListener) return s.queue.empty() ? 0 : Ready::kRead;
  if (s.kind != Socket::Kind::kSession) return s.phase == Socket::Phase::kOver ? Ready::kConnect | Ready::kHangUp : 0;
  const bool over = s.phase == Socket::Phase::kOver;
  if (over || s.phase == Socket::Phase::kEstablished) bits |= Ready::kConnect;
  if (over) bits |= Ready::kRead | Ready::kWrite | Ready::kHangUp;
  if (s.phase != Socket::Phase::kEstablished) return bits;
  if (s.rx->readable() > 0 || s.rx->at_end() || s.rx->discarding()) bits |= Ready::kRead;
  if (s.send_shut || s.tx->room() > 0) bits |= Ready::kWrite;
  if (s.send_shut && s.gets_no_more()) bits |= Ready::kHangUp;
  return bits;
}

void Sockets::tell_ready(Socket& s, bool more_data) {
  const std::uint32_t bits = ready_bits(s);
  std::uint32_t fresh = (bits & ~s.ready) | (more_data ? bits & Ready::kRead : 0);
  s.ready = bits;
  if (s.tx != nullptr && s.tx->take_returned()) fresh |= Ready::kReturned;
  // Whether or not there is room now: who asked does nothing else meanwhile.
  if (s.asked_in_line && !stands_in_line(s)) {
    s.asked_in_line = false;
    if (!planted(Plant::kLeaveLineUntold)) fresh |= Ready::kWrite;
  }
  if (fresh != 0) events_.on_ready(s.id, fresh);
}

// After anything that may have changed what a socket wants to say, to move, or to tell its program.
void Sockets::touch(Socket& s) {
  if (s.kind == Socket::Kind::kSession && s.phase != Socket::Phase::kOver) {
    note_talker(s);
    if (s.phase == Socket::Phase::kEstablished) {
      bulk_.note(s.tx);
      bulk_.note(s.rx);
    }
    write_scb(s, false);
  }
  tell_ready(s, false);
  if (s.closed) finish_closed(s);
  tell_unread(s);
}

void Sockets::destroy(Socket& s) {
  if (s.drained_told) return;
  s.drained_told = true;
  s.closed = true;
  if (s.phase == Socket::Phase::kOpening || s.phase == Socket::Phase::kEstablished) over(s, ECONNABORTED, Reason::kAborted);
  if (s.rx) s.rx->abandon();
  if (s.owns_port) ports_.release(s.port);
  table_.give_back(s.scb);
  dead_.push_back(s.id);
  events_.on_ready(s.id, Ready::kDrained | (s.lost ? Ready::kHangUp : 0));
}

void Sockets::forget_dead() {
  for (const SocketId id : dead_) sockets_.erase(id);
  dead_.clear();
}

ScbState Sockets::scb_state(const Socket& s) const {
  if (s.kind == Socket::Kind::kListener) return ScbState::kListening;
  if (s.local) {
    switch (s.local->state) {
      case LocalConversation::State::kQueued: return ScbState::kQueued;
      case LocalConversation::State::kEstablished: return ScbState::kEstablished;
      case LocalConversation::State::kClosing: return ScbState::kClosing;
    }
  }
  if (s.kind == Socket::Kind::kPlain) return s.port != 0 ? ScbState::kBound : ScbState::kUnbound;
  switch (s.phase) {
    case Socket::Phase::kOpening: return ScbState::kConnecting;
    case Socket::Phase::kEstablished:
      if (s.listener != 0) return ScbState::kQueued;
      return s.send_shut || s.closed ? ScbState::kClosing : ScbState::kEstablished;
    default: return ScbState::kClosed;
  }
}

void Sockets::write_scb(Socket& s, bool now) {
  if (s.drained_told) return;
  if (!now && core_.now - s.scb_written < kSecond) return;
  Scb scb;
  scb.state = scb_state(s);
  scb.index = s.scb;
  scb.pid = core_.config.pid;
  scb.local_port = s.port;
  scb.made_ms = s.made_ms;
  if (s.kind == Socket::Kind::kSession && !s.local) {
    scb.initiator = s.session.initiator;
    scb.session = s.session.counter;
    scb.peer_port = s.peer_port;
    scb.peer_slot = s.peer;
    scb.peer_incarnation = s.peer_identity.incarnation;
    scb.peer_name = s.peer_name;
    scb.sent = s.tx ? s.tx->accepted() : 0;
    scb.received = s.rx ? s.rx->received() : 0;
  } else if (s.local) {
    scb.initiator = s.local->initiator;
    scb.local_port = s.local->port;
    scb.peer_port = s.local->peer_port;
    scb.peer_slot = core_.self.slot;
    scb.peer_incarnation = core_.self.incarnation;
    scb.peer_name = peers_.my_name();
  }
  s.scb_written = core_.now;
  if (table_.get(s.scb) != scb) table_.set(scb);
}

void Sockets::note_no_room(Socket& s) {
  if (s.wants_room) return;
  s.wants_room = true;
  roomless_.push_back(s.id);
}

// Counts who streams, gives each its part of the working set, and tells those who have room now although nothing of theirs moved.
void Sockets::share_memory() {
  if (core_.now < next_sharing_ || (roomless_.empty() && !streaming())) return;
  next_sharing_ = core_.now + kSharingPeriod;
  std::uint64_t streams = 0;
  std::uint64_t resting = 0;
  for (const auto& [id, socket] : sockets_) {
    if (socket->phase != Socket::Phase::kEstablished) continue;
    const std::uint64_t acked = socket->tx->acked();
    if (acked - socket->acked_before >= kLeastShare / 2)
      ++streams;
    else
      resting += socket->tx->memory();
    socket->acked_before = acked;
  }
  send_budget_.set_share(streams < 2 ? UINT64_MAX : std::max(kLeastShare, kWorkingSet / streams), resting);
  for (const SocketId id : std::exchange(roomless_, {})) {
    Socket* s = find(id);
    if (s == nullptr) continue;
    s->wants_room = false;
    if (s->phase != Socket::Phase::kEstablished || s->send_shut) continue;
    tell_ready(*s, false);
    if (s->tx->room() == 0) note_no_room(*s);
  }
}

void Sockets::work() {
  share_memory();
  bulk_.work();
  table_.behind().work();
  ports_.behind().work();
  forget_dead();
}

Nanos Sockets::next_deadline() const {
  const Nanos sharing = roomless_.empty() ? kNever : next_sharing_;
  return std::min({sharing, bulk_.next_deadline(), table_.behind().next_deadline(), ports_.behind().next_deadline()});
}

bool Sockets::drained() const {
  return std::ranges::all_of(sockets_, [this](const auto& entry) {
    const Socket& s = *entry.second;
    if (s.kind != Socket::Kind::kSession || s.phase == Socket::Phase::kOver) return true;
    if (s.phase == Socket::Phase::kOpening) return !s.closed;
    return s.tx->acked() == s.tx->accepted() && !(s.closed && !s.tx->settled()) && !socket_has_messages(s);
  });
}

void Sockets::abort_all() {
  std::vector<SocketId> ids;
  for (const auto& [id, socket] : sockets_) ids.push_back(id);
  std::ranges::sort(ids);
  for (const SocketId id : ids) close(id, true);
}

}  // namespace stp
