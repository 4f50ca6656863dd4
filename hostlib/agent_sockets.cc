#include "hostlib/agent_sockets.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "stp/system.h"

namespace stp::host {
namespace {

constexpr std::size_t kSmallReceive = 4096;
constexpr Nanos kAskAfter = 2 * kSecond;  // without a word of a close that was told
constexpr std::uint64_t kUnknown = ~std::uint64_t{0};  // the agent that knows is gone: not for none

std::uint32_t state_of(const ShadowEnd& end) { return end.mine().state.load(std::memory_order_acquire); }

AgentCall request_of(const AgentSocketEntry& entry, AgentRequest what, std::uint32_t number, std::uint32_t flags) {
  AgentCall call;
  call.what = what;
  call.socket = entry.number;
  call.number = number;
  call.flags = flags;
  return call;
}

}  // namespace

std::shared_ptr<AgentSocketEntry> AgentSockets::find(SocketId id) const {
  const auto it = entries_.find(id);
  return it == entries_.end() ? nullptr : it->second;
}

SocketId AgentSockets::id_of(const AgentLink& link, std::uint32_t index) const {
  return &link == indexed_ && index < by_index_.size() ? by_index_[index] : 0;
}

AgentSocketEntry* AgentSockets::find_again(SocketId id) {
  if (last_ != nullptr && last_->id == id) return last_;
  const auto it = entries_.find(id);
  return last_ = it == entries_.end() ? nullptr : it->second.get();
}

void AgentSockets::forget(SocketId id) {
  last_ = nullptr;
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  Entry& entry = *it->second;
  if (entry.closed && !entry.gone && !entry.link->dead()) (void)tell(entry, AgentRequest::kForget);
  if (entry.link.get() == indexed_ && entry.index < by_index_.size() && by_index_[entry.index] == id) by_index_[entry.index] = 0;
  entries_.erase(it);
}

SocketResult<AgentLink::Reply> AgentSockets::ask(const Entry& entry, AgentRequest what, std::uint32_t number, std::uint32_t flags) {
  return entry.link->ask(request_of(entry, what, number, flags));
}

bool AgentSockets::tell(const Entry& entry, AgentRequest what, std::uint32_t flags) { return entry.link->tell(request_of(entry, what, 0, flags)); }

// After anything that the other side may wait for.
void AgentSockets::tell_other(const Entry& entry) const {
  if (entry.end.wake_other()) entry.link->tell_agent(entry.index);
}

AgentSockets::Phase AgentSockets::phase(const Entry& entry) {
  if (entry.over.code != 0) return Phase::kOver;
  if (entry.kind == Entry::Kind::kListener) return Phase::kNone;
  if (entry.renewed) return Phase::kNone;
  const std::uint32_t state = state_of(entry.end);
  if ((state & ShadowSide::kOver) != 0) return Phase::kOver;
  if (entry.kind != Entry::Kind::kSession) return Phase::kNone;
  return (state & ShadowSide::kConnected) != 0 ? Phase::kEstablished : Phase::kOpening;
}

// What a program of the family said for all of them is in the shadow.
bool AgentSockets::sends_no_more(const Entry& entry) {
  return entry.send_shut || (entry.family && (entry.end.mine().ended.load(std::memory_order_relaxed) & ShadowSide::kEnd) != 0);
}

bool AgentSockets::reads_no_more(const Entry& entry) {
  return entry.read_shut || (entry.family && (entry.end.mine().deaf.load(std::memory_order_relaxed) & ShadowSide::kDrops) != 0);
}

// The other program ended the conversation with a reset. It is over; this side has yet to say so.
bool AgentSockets::was_reset(const Entry& entry) { return (entry.end.ended() & ShadowSide::kReset) != 0; }

// The peer's direction has come to its end, or is not wanted any more. What came before may still be unread.
bool AgentSockets::gets_no_more(const Entry& entry) { return (entry.end.ended() & ShadowSide::kEnd) != 0 || reads_no_more(entry); }

// What became of a socket that another process of the family may have bound, connected or made listen.
void AgentSockets::refresh(Entry& entry) const {
  const auto reply = ask(entry, AgentRequest::kInfo);
  if (!reply) return;
  entry.port = static_cast<std::uint16_t>(reply->answer.port);
  entry.local = reply->answer.local != 0;
  entry.backlog = reply->answer.backlog;
  if (reply->answer.kind == AgentAnswer::kListener) entry.kind = Entry::Kind::kListener;
  if (reply->answer.kind == AgentAnswer::kSession) {
    entry.kind = Entry::Kind::kSession;
    entry.peer = {.host = get_text(reply->answer.host), .stg = entry.link->superblock().stg, .port = static_cast<std::uint16_t>(reply->answer.peer_port)};
  }
}

std::shared_ptr<AgentSocketEntry> AgentSockets::find_fresh(SocketId id) const {
  auto entry = find(id);
  if (entry != nullptr && entry->family && entry->kind == Entry::Kind::kPlain && !entry->closed) refresh(*entry);
  return entry;
}

SocketError AgentSockets::error_of(const Entry& entry) {
  if (entry.over.code != 0) return entry.over;
  if (entry.renewed) return {};
  ShadowSide& mine = entry.end.mine();
  if ((mine.state.load(std::memory_order_acquire) & ShadowSide::kOver) == 0) return {};
  const auto code = static_cast<int>(mine.error.load(std::memory_order_relaxed));
  // In a local conversation the other program can write there: nothing that would be taken for "not yet".
  const bool sensible = code > 0 && code < 4096 && code != EAGAIN && code != EINPROGRESS && code != EALREADY && code != EINTR;
  return {sensible ? code : ECONNRESET, static_cast<Reason>(mine.reason.load(std::memory_order_relaxed))};
}

SocketResult<std::shared_ptr<AgentSocketEntry>> AgentSockets::adopt(AgentLink::Reply reply, std::shared_ptr<AgentLink> link, bool taken) {
  const AgentAnswer& answer = reply.answer;
  auto memory = ShadowMemory::map(reply.descriptors->at(0), answer.bytes);
  if (!memory || answer.index >= kMostSocketsOfAProgram || answer.side > 1) {
    taken ? link->put_back(answer.socket) : link->give_back(answer.socket);
    return no(memory ? EPROTO : memory.error());
  }
  auto entry = std::make_shared<Entry>();
  while (next_id_ == 0 || entries_.contains(next_id_)) ++next_id_;
  entry->id = next_id_++;
  entry->link = std::move(link);
  entry->number = answer.socket;
  entry->index = answer.index;
  entry->scb = answer.scb;
  entry->local = answer.local != 0;
  entry->port = static_cast<std::uint16_t>(answer.port);
  entry->end = ShadowEnd(std::move(*memory), static_cast<int>(answer.side));
  if (entry->link.get() != indexed_) {
    by_index_.clear();
    indexed_ = entry->link.get();
  }
  if (entry->index >= by_index_.size()) by_index_.resize(std::max<std::size_t>(entry->index + 1, 2 * by_index_.size()));
  by_index_[entry->index] = entry->id;
  entries_.emplace(entry->id, entry);
  return entry;
}

std::vector<SocketId> AgentSockets::listen_again(const std::shared_ptr<AgentLink>& link) {
  std::vector<std::shared_ptr<Entry>> listeners;
  for (const auto& [id, entry] : entries_)
    if (entry->kind == Entry::Kind::kListener && !entry->closed && entry->link != link) listeners.push_back(entry);
  for (const auto& old : listeners) {
    auto fresh_id = open(0);
    if (!fresh_id) continue;
    const std::shared_ptr<Entry> fresh = find(*fresh_id);
    last_ = nullptr;
    entries_.erase(*fresh_id);
    SocketError error;
    if (auto bound = ask(*fresh, AgentRequest::kBind, old->port); !bound)
      error = bound.error();
    else if (auto listening = ask(*fresh, AgentRequest::kListen, old->backlog); !listening)
      error = listening.error();
    if (error.code != 0) {
      (void)ask(*fresh, AgentRequest::kClose);
      (void)tell(*fresh, AgentRequest::kForget);
      old->listen_error = error;  // told by the next accept: the port is somebody else's now, or root's
      ShadowEnd::wake(old->end.mine());
      continue;
    }
    // The program's socket stays what it was; only what is behind it is new.
    const SocketId id = old->id;
    by_index_[fresh->index] = id;
    fresh->id = id;
    fresh->kind = Entry::Kind::kListener;
    fresh->port = old->port;
    fresh->backlog = old->backlog;
    entries_[id] = fresh;
    ShadowEnd::wake(old->end.mine());
  }
  std::vector<SocketId> ids;
  for (const auto& each : listeners) ids.push_back(each->id);
  return ids;
}

bool AgentSockets::any_closing() const {
  for (const auto& [id, entry] : entries_)
    if (closing(id)) return true;
  return false;
}

SocketResult<SocketId> AgentSockets::open(Nanos) {
  AgentCall call;
  call.what = AgentRequest::kOpen;
  auto reply = link_->ask(call);
  if (!reply) return std::unexpected(reply.error());
  auto entry = adopt(std::move(*reply), link_);
  if (!entry) return std::unexpected(entry.error());
  return (*entry)->id;
}

SocketResult<std::uint16_t> AgentSockets::bind(SocketId id, std::uint16_t port) {
  const auto entry = find_fresh(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  if (entry->port != 0 || entry->kind != Entry::Kind::kPlain) return no(EINVAL);
  auto reply = ask(*entry, AgentRequest::kBind, port);
  if (!reply) return std::unexpected(reply.error());
  return entry->port = static_cast<std::uint16_t>(reply->answer.port);
}

SocketResult<void> AgentSockets::listen(SocketId id, std::uint32_t backlog) {
  const auto entry = find_fresh(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  if (entry->kind == Entry::Kind::kSession) return no(EINVAL);
  auto reply = ask(*entry, AgentRequest::kListen, backlog);
  if (!reply) return std::unexpected(reply.error());
  entry->kind = Entry::Kind::kListener;
  entry->backlog = backlog;
  entry->port = static_cast<std::uint16_t>(reply->answer.port);
  return {};
}

SocketResult<SocketId> AgentSockets::accept(SocketId id, Nanos) {
  const auto listener = find_fresh(id);
  if (listener == nullptr || listener->closed) return no(EBADF);
  if (listener->kind != Entry::Kind::kListener) return no(EINVAL);
  if (listener->listen_error.code != 0) return std::unexpected(listener->listen_error);
  if (listener->over.code != 0) return no(EAGAIN);  // until there is an agent again
  if (listener->end.mine().queued.load(std::memory_order_acquire) == 0) return no(EAGAIN);
  if (!listener->link->room_for_descriptors()) return no(EMFILE);
  auto reply = ask(*listener, AgentRequest::kAccept);
  if (!reply) return std::unexpected(reply.error());
  Address peer{.host = get_text(reply->answer.host), .stg = listener->link->superblock().stg, .port = static_cast<std::uint16_t>(reply->answer.peer_port)};
  auto entry = adopt(std::move(*reply), listener->link);
  if (!entry) return std::unexpected(entry.error());
  (*entry)->kind = Entry::Kind::kSession;
  (*entry)->peer = std::move(peer);
  (*entry)->peer_known = true;
  return (*entry)->id;
}

SocketResult<void> AgentSockets::connect(SocketId id, const Address& peer, bool wait_for_accept, Nanos) {
  const auto entry = find_fresh(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  if (entry->kind == Entry::Kind::kListener) return no(EOPNOTSUPP);
  entry->look_again();
  const Phase now = phase(*entry);
  if (now == Phase::kEstablished) return no(EISCONN);
  if (now == Phase::kOpening) return no(EALREADY);
  if (peer.port == 0) return no(ECONNREFUSED, Reason::kNoListener);
  if (!peer.stg.empty() && peer.stg != entry->link->superblock().stg) return no(ENETUNREACH, Reason::kOtherStg);
  AgentCall call;
  call.what = AgentRequest::kConnect;
  call.socket = entry->number;
  call.number = peer.port;
  call.flags = wait_for_accept ? AgentCall::kWaitForAccept : 0;
  put_text(call.host, peer.host);
  auto reply = entry->link->ask(call);
  if (!reply) return std::unexpected(reply.error());
  entry->kind = Entry::Kind::kSession;
  entry->local = reply->answer.local != 0;
  entry->port = static_cast<std::uint16_t>(reply->answer.port);
  entry->peer = {.host = peer.host, .stg = entry->link->superblock().stg, .port = peer.port};
  entry->peer_known = false;
  entry->over = {};
  entry->error_taken = entry->renewed = entry->send_shut = entry->read_shut = false;
  return no(EINPROGRESS);
}

template <class Put>
SocketResult<std::size_t> AgentSockets::send_by(SocketId id, std::size_t wanted, Put put) {
  Entry* const found = find_again(id);
  if (found == nullptr || found->closed) return no(EBADF);
  Entry& entry = *found;
  entry.look_again();
  if (entry.family && entry.kind == Entry::Kind::kPlain) refresh(entry);
  switch (phase(entry)) {
    case Phase::kNone: return no(ENOTCONN);
    case Phase::kOpening: return no(EAGAIN);
    case Phase::kOver: {
      const SocketError error = error_of(entry);
      if (entry.error_taken) return no(EPIPE, error.reason);
      entry.error_taken = true;
      return std::unexpected(error);
    }
    case Phase::kEstablished: break;
  }
  const bool reset = was_reset(entry);
  if (sends_no_more(entry) && !reset) return no(EPIPE);
  if (wanted == 0 && !reset) return std::size_t{0};
  const std::uint32_t deaf = entry.end.deaf();
  if ((deaf & ShadowSide::kGone) != 0 || reset) {
    entry.over = {ECONNRESET, reset ? Reason::kAborted : Reason::kClosed};
    return send_by(id, wanted, put);
  }
  if ((deaf & ShadowSide::kDrops) != 0 && entry.local) return put(nullptr).value_or(wanted);
  const FamilyGuard turn(entry.family.get());
  if (entry.turn_missed = !turn; !turn) return no(EAGAIN);
  const std::optional<std::size_t> n = put(&entry.end);
  entry.small_in_a_row = 0;
  if (n.value_or(0) > 0) tell_other(entry);
  if (n) return *n;
  if (entry.end.broken()) {
    entry.over = {ECONNRESET, Reason::kProtocol};
    return send_by(id, wanted, put);
  }
  return no(EAGAIN, Reason::kSendBufferFull);
}

SocketResult<std::size_t> AgentSockets::send(SocketId id, ConstBytes data, Nanos) {
  return send_by(id, data.size(), [data](ShadowEnd* end) -> std::optional<std::size_t> {
    const std::size_t n = end != nullptr ? end->write(data) : data.size();
    return n > 0 ? std::optional(n) : std::nullopt;
  });
}

SocketResult<std::size_t> AgentSockets::send_in_place(SocketId id, std::size_t most, const Fill& fill) {
  std::vector<std::byte> dropped;
  return send_by(id, most, [&](ShadowEnd* end) -> std::optional<std::size_t> {
    if (end == nullptr) dropped.resize(most);
    const Bytes free = end != nullptr ? end->next_room() : Bytes(dropped);
    const Bytes room = free.first(std::min(free.size(), most));
    if (room.empty()) return std::nullopt;
    const std::size_t n = std::min(fill(room), room.size());
    if (end != nullptr) end->publish(n);
    return n;
  });
}

// Whether a receive is to leave what is there for a moment. A receiver that takes each small message of a fast sender as it comes has the
// line of its counter all the time, and the sender waits for it at each send. Said once only, then what is there is taken: a call that
// does not wait asks twice. Where messages go both ways, or seldom, nothing is put off.
bool AgentSockets::gathers(Entry& entry, std::size_t wanted) {
  constexpr std::uint32_t kInARow = 8;
  constexpr Nanos kFast = 10 * kMicrosecond;
  if (entry.small_in_a_row < kInARow || std::exchange(entry.gathers, false)) return false;
  const std::size_t there = entry.end.readable();
  if (there == 0 || there >= std::min<std::size_t>(wanted, kSmallReceive) || entry.end.ended() != 0) return false;
  if (boottime_now() - entry.last_small_at > kFast) {
    entry.small_in_a_row = 0;
    return false;
  }
  return entry.gathers = true;
}

void AgentSockets::note_received(Entry& entry, std::size_t bytes) {
  constexpr std::uint32_t kClockFrom = 7;  // the first few cost no look at the clock
  if (bytes >= kSmallReceive)
    entry.small_in_a_row = 0;
  else if (++entry.small_in_a_row > kClockFrom)
    entry.last_small_at = boottime_now();
}

template <class Get>
SocketResult<std::size_t> AgentSockets::receive_by(SocketId id, std::size_t wanted, bool peek, Get get) {
  Entry* const found = find_again(id);
  if (found == nullptr || found->closed) return no(EBADF);
  Entry& entry = *found;
  entry.look_again();
  if (entry.family && entry.kind == Entry::Kind::kPlain) refresh(entry);
  const Phase before = phase(entry);  // before the look at the ring: what came ahead of the end is there then
  if (entry.kind != Entry::Kind::kSession || before == Phase::kNone) {
    if (before != Phase::kOver || entry.error_taken) return no(ENOTCONN);
    entry.error_taken = true;
    return std::unexpected(error_of(entry));
  }
  if (before == Phase::kOpening) return no(EAGAIN);
  if (wanted == 0) return std::size_t{0};
  const bool broke = before == Phase::kOver || was_reset(entry);
  if (reads_no_more(entry) && (!broke || entry.error_taken)) return std::size_t{0};
  const FamilyGuard turn(entry.family.get());
  if (entry.turn_missed = !turn; !turn) return no(EAGAIN);
  const bool reset = entry.end.at_reset();
  const bool drops = reads_no_more(entry);
  if (!peek && !drops && gathers(entry, wanted)) return no(EAGAIN);
  const std::optional<std::size_t> n = drops ? std::nullopt : get(entry.end);
  if (n) {
    if (*n == 0) return no(EAGAIN);
    if (!peek) {
      tell_other(entry);
      note_received(entry, *n);
    }
    return *n;
  }
  if (entry.end.at_end()) return std::size_t{0};
  if (before == Phase::kOver || reset || entry.end.broken()) {
    if (before != Phase::kOver) entry.over = {ECONNRESET, reset ? Reason::kAborted : Reason::kProtocol};
    entry.error_taken = true;
    return std::unexpected(error_of(entry));
  }
  return no(EAGAIN);
}

SocketResult<std::size_t> AgentSockets::receive(SocketId id, Bytes into, bool peek, Nanos) {
  return receive_by(id, into.size(), peek, [&](ShadowEnd& end) {
    const std::size_t n = end.read(into, peek);
    return n > 0 ? std::optional(n) : std::nullopt;
  });
}

SocketResult<std::size_t> AgentSockets::receive_in_place(SocketId id, std::size_t most, const Take& take) {
  return receive_by(id, most, false, [&](ShadowEnd& end) -> std::optional<std::size_t> {
    const ConstBytes all = end.next_readable();
    const ConstBytes there = all.first(std::min(all.size(), most));
    if (there.empty()) return std::nullopt;
    const std::size_t n = std::min(take(there), there.size());
    end.take(n);
    return n;
  });
}

SocketResult<void> AgentSockets::shut(SocketId id, bool read, bool write, Nanos) {
  const auto entry = find_fresh(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  if (entry->kind != Entry::Kind::kSession || phase(*entry) != Phase::kEstablished || was_reset(*entry)) return no(ENOTCONN);
  entry->look_again();
  if (write && !entry->send_shut) {
    entry->send_shut = true;
    entry->end.end(ShadowSide::kEnd);
  }
  if (read && !entry->read_shut) {
    entry->read_shut = true;
    entry->end.stop_listening(ShadowSide::kDrops);
    if (const FamilyGuard turn(entry->family.get()); turn) entry->end.take(entry->end.readable());
  }
  tell_other(*entry);
  if (entry->family) {
    // The others of the family wait for this side, which nobody else wakes.
    ShadowEnd::wake(entry->end.mine());
    (void)ask(*entry, AgentRequest::kNudge);
  }
  return {};
}

void AgentSockets::close(SocketId id, bool abort, Nanos) {
  const auto entry = find(id);
  if (entry == nullptr || entry->closed) return;
  entry->closed = true;
  entry->look_again();
  if (entry->family && !entry->link->dead()) {
    // Others who have it go on with it: for this program it is over, and nothing is to be waited for.
    const auto reply = ask(*entry, AgentRequest::kLetGo);
    if (reply && reply->answer.local != 0) {
      entry->gone = true;
      return;
    }
    if (entry->kind == Entry::Kind::kPlain) refresh(*entry);
  }
  if (entry->kind == Entry::Kind::kSession && !entry->link->dead()) {
    const bool unread = entry->end.readable() > 0 && !reads_no_more(*entry);
    // Of two programs of one agent this side ends the conversation itself; a remote one the agent ends, when all has gone.
    // Where both directions have come to their end there is nothing left to abort.
    if (entry->local && sends_no_more(*entry) && (entry->end.ended() & ShadowSide::kEnd) != 0) abort = false;
    if (abort || (entry->local && unread)) entry->end.end(ShadowSide::kReset);
    entry->end.end(abort ? ShadowSide::kReset : ShadowSide::kEnd);
    entry->end.stop_listening(ShadowSide::kGone);
    if (entry->local) tell_other(*entry);
  }
  // A port that is to be free when close returns is asked for. A conversation that goes to its end does so by and by, and that is seen in the shadow.
  if (phase(*entry) == Phase::kEstablished && entry->kind == Entry::Kind::kSession && !abort) {
    entry->told_at = boottime_now();
    if (tell(*entry, AgentRequest::kClose, AgentCall::kQuietly)) return;
  } else if (!entry->link->dead() && ask(*entry, AgentRequest::kClose, 0, abort ? AgentCall::kAbort : 0)) {
    return;
  }
  entry->gone = true;
  note_agent_gone(*entry);
}

// A close may find out before the loss of the agent is told to everybody; and nobody knows what has arrived.
void AgentSockets::note_agent_gone(Entry& entry) {
  if (entry.kind != Entry::Kind::kSession || phase(entry) != Phase::kEstablished || (state_of(entry.end) & ShadowSide::kDrained) != 0) return;
  if (entry.link->dead()) entry.over = {ECONNRESET, Reason::kAgentGone};
}

bool AgentSockets::closing(SocketId id) const {
  const auto entry = find(id);
  const bool closes = entry != nullptr && entry->closed && !entry->gone && !entry->link->dead() && (state_of(entry->end) & ShadowSide::kDrained) == 0;
  if (!closes || entry->told_at == 0 || boottime_now() - entry->told_at < kAskAfter) return closes;
  // It may be the peer that takes its time, or an agent that does nothing any more: whoever does not answer is dead.
  entry->told_at = boottime_now();
  (void)ask(*entry, AgentRequest::kInfo);
  if (!entry->link->dead()) return true;
  entry->gone = true;
  note_agent_gone(*entry);
  return false;
}

SocketResult<SocketInfo> AgentSockets::info(SocketId id) const {
  const auto entry = find_fresh(id);
  if (entry == nullptr) return no(EBADF);
  SocketInfo out;
  const Phase now = phase(*entry);
  // Of a host with several instances the name of this one is known to the agent alone, also when the conversation is over.
  const bool nameless = now == Phase::kOver && entry->kind == Entry::Kind::kSession && !entry->peer_known && !entry->closed;
  if (nameless || (now == Phase::kEstablished && (!entry->local || !entry->peer_known))) {
    AgentCall call;
    call.what = AgentRequest::kInfo;
    call.socket = entry->number;
    if (auto reply = entry->link->ask(call)) {
      out.unacknowledged_bytes = reply->answer.bytes;
      if (const std::string host = get_text(reply->answer.host); !host.empty()) entry->peer.host = host;
      entry->peer_known = true;
    } else {
      out.unacknowledged_bytes = entry->local ? 0 : kUnknown;
    }
  }
  if (entry->kind == Entry::Kind::kListener) out.state = ScbState::kListening;
  if (entry->kind == Entry::Kind::kPlain) out.state = entry->port != 0 ? ScbState::kBound : ScbState::kUnbound;
  if (entry->kind == Entry::Kind::kSession)
    out.state = now == Phase::kOpening ? ScbState::kConnecting : now == Phase::kEstablished && !was_reset(*entry) ? ScbState::kEstablished : ScbState::kClosed;
  out.scb = entry->scb;
  out.ready = bits(*entry);
  out.local = {entry->link->own_name(), entry->link->superblock().stg, entry->port};
  if (entry->kind == Entry::Kind::kSession) out.peer = entry->peer;
  if (!entry->error_taken) out.error = error_of(*entry);
  out.readable_bytes = reads_no_more(*entry) || entry->kind != Entry::Kind::kSession ? 0 : entry->end.readable();
  return out;
}

bool AgentSockets::connect_ended(SocketId id) const {
  const auto entry = find_fresh(id);
  return entry == nullptr || (bits(*entry) & Ready::kConnect) != 0;
}

Address AgentSockets::peer(SocketId id) const {
  const auto entry = find(id);
  return entry != nullptr && entry->kind == Entry::Kind::kSession ? entry->peer : Address{};
}

std::uint32_t AgentSockets::bits(const Entry& entry) const {
  const FamilyGuard turn(entry.family.get());
  return bits_now(entry, static_cast<bool>(turn));
}

// `whole`: nobody else moves this side's counters meanwhile. Else they may seem to make no sense, which they do in a moment.
std::uint32_t AgentSockets::bits_now(const Entry& entry, bool whole) {
  const Phase now = phase(entry);
  if (entry.kind == Entry::Kind::kListener) {
    if (entry.listen_error.code != 0) return Ready::kRead;
    if (entry.over.code != 0) return 0;
    return entry.end.mine().queued.load(std::memory_order_acquire) != 0 ? Ready::kRead : 0;
  }
  if (entry.kind == Entry::Kind::kPlain) return now == Phase::kOver ? Ready::kConnect | Ready::kHangUp : 0;
  if (now == Phase::kOver) return Ready::kConnect | Ready::kRead | Ready::kWrite | Ready::kHangUp;
  if (now != Phase::kEstablished) return 0;
  std::uint32_t out = Ready::kConnect;
  const bool reset = was_reset(entry) || (whole && entry.end.broken());
  const bool at_end = entry.end.at_end();
  if (entry.end.readable() > 0 || at_end || reset || reads_no_more(entry)) out |= Ready::kRead;
  if (sends_no_more(entry) || entry.end.deaf() != 0 || reset || entry.end.room() > 0) out |= Ready::kWrite;
  if ((sends_no_more(entry) && gets_no_more(entry)) || reset) out |= Ready::kHangUp;
  return out;
}

SocketResult<std::uint32_t> AgentSockets::ready(SocketId id) {
  Entry* const entry = find_again(id);
  if (entry == nullptr) return no(EBADF);
  if (still_holds(*entry)) return entry->told_bits;
  entry->end.want_news();
  entry->told_bits = look(*entry);
  entry->told_in = all_is_told(*entry) ? time_ : 0;
  return entry->told_bits;
}

// Whoever looks again and again, and finds no reason to do anything, asks for news after all: the next looks are short ones then.
SocketResult<std::uint32_t> AgentSockets::ready_at_a_glance(SocketId id) {
  constexpr std::uint32_t kLooks = 3;
  Entry* const entry = find_again(id);
  if (entry == nullptr) return no(EBADF);
  if (still_holds(*entry)) return entry->told_bits;
  if (++entry->looks > kLooks && all_is_told(*entry)) return ready(id);
  return look(*entry);
}

// The agent tells all that it does to a conversation. Another program of the host does it in the shadow at once, and its word comes later,
// by way of the agent; one of the family tells nothing.
bool AgentSockets::all_is_told(const Entry& entry) {
  return !entry.local && entry.family == nullptr && entry.kind == Entry::Kind::kSession && phase(entry) == Phase::kEstablished;
}

std::uint32_t AgentSockets::look(Entry& entry) const {
  if (entry.family && entry.kind == Entry::Kind::kPlain && !entry.closed) refresh(entry);
  const FamilyGuard turn(entry.family.get());
  const bool whole = static_cast<bool>(turn);
  std::uint32_t out = bits_now(entry, whole);
  const Phase now = phase(entry);
  if (entry.kind == Entry::Kind::kPlain && now == Phase::kNone) out |= Ready::kWrite | Ready::kHangUp;
  const bool reset = now == Phase::kEstablished && (was_reset(entry) || (whole && entry.end.broken()));
  const bool listener = entry.kind == Entry::Kind::kListener;  // goes on with the next agent
  if ((now == Phase::kOver && !listener && error_of(entry).code != 0 && !entry.error_taken) || (reset && !entry.error_taken)) out |= Ready::kError;
  if ((now == Phase::kOver && !listener) || (now == Phase::kEstablished && (reset || gets_no_more(entry)))) out |= Ready::kPeerEnded;
  return out;
}

SocketError AgentSockets::take_error(SocketId id) {
  const auto entry = find(id);
  if (entry == nullptr || entry->error_taken) return {};
  entry->look_again();
  // Who closed without having asked what became of a connect does not ask now.
  if (entry->closed && (state_of(entry->end) & ShadowSide::kConnected) == 0) return {};
  if (phase(*entry) == Phase::kEstablished && was_reset(*entry)) entry->over = {ECONNRESET, Reason::kAborted};
  if (entry->closed && !entry->gone) note_agent_gone(*entry);
  // A close tells what was lost, and nothing of how a conversation ended in which all had arrived.
  if (entry->closed && !entry->local && entry->over.code == 0 && (state_of(entry->end) & ShadowSide::kLost) == 0) return {};
  SocketError error = error_of(*entry);
  // Of a close that was waited for: not everything arrived.
  if (error.code == 0 && entry->closed && (state_of(entry->end) & ShadowSide::kLost) != 0) error = {ECONNRESET, Reason::kClosed};
  entry->error_taken = error.code != 0;
  return error;
}

void AgentSockets::renew(SocketId id) {
  const auto entry = find(id);
  if (entry == nullptr || entry->closed || entry->over.code != 0 || entry->kind != Entry::Kind::kSession) return;
  const std::uint32_t state = state_of(entry->end);
  if ((state & ShadowSide::kOver) == 0 || (state & ShadowSide::kConnected) != 0) return;
  entry->look_again();
  entry->kind = Entry::Kind::kPlain;
  entry->renewed = true;
  entry->error_taken = false;
}

void AgentSockets::set_buffer(SocketId id, std::uint32_t bytes, bool send) {
  const auto entry = find(id);
  if (entry != nullptr && !entry->closed) (void)ask(*entry, AgentRequest::kBuffers, bytes, send ? AgentCall::kSend : 0);
}

}  // namespace stp::host
