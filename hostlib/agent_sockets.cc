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

using Phase = AgentSocketEntry::Phase;

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
  if (entry.closed && !entry.gone && !entry.link->dead()) (void)entry.tell(AgentRequest::kForget);
  if (entry.link.get() == indexed_ && entry.index < by_index_.size() && by_index_[entry.index] == id) by_index_[entry.index] = 0;
  entries_.erase(it);
}

// After anything that the other side may wait for.
void AgentSockets::tell_other(const Entry& entry) const {
  if (entry.end.wake_other()) entry.link->tell_agent(entry.index);
}

std::shared_ptr<AgentSocketEntry> AgentSockets::find_fresh(SocketId id) const {
  auto entry = find(id);
  if (entry != nullptr && entry->family && entry->kind == Entry::Kind::kPlain && !entry->closed) entry->refresh();
  return entry;
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
    if (auto bound = fresh->ask(AgentRequest::kBind, old->port); !bound)
      error = bound.error();
    else if (auto listening = fresh->ask(AgentRequest::kListen, old->backlog); !listening)
      error = listening.error();
    if (error.code != 0) {
      (void)fresh->ask(AgentRequest::kClose);
      (void)fresh->tell(AgentRequest::kForget);
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
  auto reply = entry->ask(AgentRequest::kBind, port);
  if (!reply) return std::unexpected(reply.error());
  return entry->port = static_cast<std::uint16_t>(reply->answer.port);
}

SocketResult<void> AgentSockets::listen(SocketId id, std::uint32_t backlog) {
  const auto entry = find_fresh(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  if (entry->kind == Entry::Kind::kSession) return no(EINVAL);
  auto reply = entry->ask(AgentRequest::kListen, backlog);
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
  auto reply = listener->ask(AgentRequest::kAccept);
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
  entry->forget_told();
  const Phase now = entry->phase();
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
  entry.forget_told();
  if (entry.family && entry.kind == Entry::Kind::kPlain) entry.refresh();
  switch (entry.phase()) {
    case Phase::kNone: return no(ENOTCONN);
    case Phase::kOpening: return no(EAGAIN);
    case Phase::kOver: {
      const SocketError error = entry.error();
      if (entry.error_taken) return no(EPIPE, error.reason);
      entry.error_taken = true;
      return std::unexpected(error);
    }
    case Phase::kEstablished: break;
  }
  const bool reset = entry.was_reset();
  if (entry.sends_no_more() && !reset) return no(EPIPE);
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
  entry.forget_told();
  if (entry.family && entry.kind == Entry::Kind::kPlain) entry.refresh();
  const Phase before = entry.phase();  // before the look at the ring: what came ahead of the end is there then
  if (entry.kind != Entry::Kind::kSession || before == Phase::kNone) {
    if (before != Phase::kOver || entry.error_taken) return no(ENOTCONN);
    entry.error_taken = true;
    return std::unexpected(entry.error());
  }
  if (before == Phase::kOpening) return no(EAGAIN);
  if (wanted == 0) return std::size_t{0};
  const bool broke = before == Phase::kOver || entry.was_reset();
  if (entry.reads_no_more() && (!broke || entry.error_taken)) return std::size_t{0};
  const FamilyGuard turn(entry.family.get());
  if (entry.turn_missed = !turn; !turn) return no(EAGAIN);
  const bool reset = entry.end.at_reset();
  const bool drops = entry.reads_no_more();
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
    return std::unexpected(entry.error());
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
  if (entry->kind != Entry::Kind::kSession || entry->phase() != Phase::kEstablished || entry->was_reset()) return no(ENOTCONN);
  entry->forget_told();
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
    (void)entry->ask(AgentRequest::kNudge);
  }
  return {};
}

void AgentSockets::close(SocketId id, bool abort, Nanos) {
  const auto entry = find(id);
  if (entry == nullptr || entry->closed) return;
  entry->closed = true;
  entry->forget_told();
  if (entry->family && !entry->link->dead()) {
    // Others who have it go on with it: for this program it is over, and nothing is to be waited for.
    const auto reply = entry->ask(AgentRequest::kLetGo);
    if (reply && reply->answer.local != 0) {
      entry->gone = true;
      return;
    }
    if (entry->kind == Entry::Kind::kPlain) entry->refresh();
  }
  if (entry->kind == Entry::Kind::kSession && !entry->link->dead()) {
    const bool unread = entry->end.readable() > 0 && !entry->reads_no_more();
    // Of two programs of one agent this side ends the conversation itself; a remote one the agent ends, when all has gone.
    // Where both directions have come to their end there is nothing left to abort.
    if (entry->local && entry->sends_no_more() && (entry->end.ended() & ShadowSide::kEnd) != 0) abort = false;
    if (abort || (entry->local && unread)) entry->end.end(ShadowSide::kReset);
    entry->end.end(abort ? ShadowSide::kReset : ShadowSide::kEnd);
    entry->end.stop_listening(ShadowSide::kGone);
    if (entry->local) tell_other(*entry);
  }
  // A port that is to be free when close returns is asked for. A conversation that goes to its end does so by and by, and that is seen in the shadow.
  if (entry->phase() == Phase::kEstablished && entry->kind == Entry::Kind::kSession && !abort) {
    entry->told_at = boottime_now();
    if (entry->tell(AgentRequest::kClose, AgentCall::kQuietly)) return;
  } else if (!entry->link->dead() && entry->ask(AgentRequest::kClose, 0, abort ? AgentCall::kAbort : 0)) {
    return;
  }
  entry->gone = true;
  entry->note_agent_gone();
}

bool AgentSockets::closing(SocketId id) const {
  const auto entry = find(id);
  const bool closes = entry != nullptr && entry->closed && !entry->gone && !entry->link->dead() && (entry->state() & ShadowSide::kDrained) == 0;
  if (!closes || entry->told_at == 0 || boottime_now() - entry->told_at < kAskAfter) return closes;
  // It may be the peer that takes its time, or an agent that does nothing any more: whoever does not answer is dead.
  entry->told_at = boottime_now();
  (void)entry->ask(AgentRequest::kInfo);
  if (!entry->link->dead()) return true;
  entry->gone = true;
  entry->note_agent_gone();
  return false;
}

SocketResult<SocketInfo> AgentSockets::info(SocketId id) const {
  const auto entry = find_fresh(id);
  if (entry == nullptr) return no(EBADF);
  SocketInfo out;
  const Phase now = entry->phase();
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
    out.state = now == Phase::kOpening ? ScbState::kConnecting : now == Phase::kEstablished && !entry->was_reset() ? ScbState::kEstablished : ScbState::kClosed;
  out.scb = entry->scb;
  out.ready = entry->bits();
  out.local = {entry->link->own_name(), entry->link->superblock().stg, entry->port};
  if (entry->kind == Entry::Kind::kSession) out.peer = entry->peer;
  if (!entry->error_taken) out.error = entry->error();
  out.readable_bytes = entry->reads_no_more() || entry->kind != Entry::Kind::kSession ? 0 : entry->end.readable();
  return out;
}

bool AgentSockets::connect_ended(SocketId id) const {
  const auto entry = find_fresh(id);
  return entry == nullptr || (entry->bits() & Ready::kConnect) != 0;
}

Address AgentSockets::peer(SocketId id) const {
  const auto entry = find(id);
  return entry != nullptr && entry->kind == Entry::Kind::kSession ? entry->peer : Address{};
}

SocketResult<std::uint32_t> AgentSockets::ready(SocketId id) {
  Entry* const entry = find_again(id);
  if (entry == nullptr) return no(EBADF);
  if (still_holds(*entry)) return entry->told_bits;
  entry->end.want_news();
  entry->told_bits = entry->look();
  entry->told_in = entry->all_is_told() ? time_ : 0;
  return entry->told_bits;
}

// Whoever looks again and again, and finds no reason to do anything, asks for news after all: the next looks are short ones then.
SocketResult<std::uint32_t> AgentSockets::ready_at_a_glance(SocketId id) {
  constexpr std::uint32_t kLooks = 3;
  Entry* const entry = find_again(id);
  if (entry == nullptr) return no(EBADF);
  if (still_holds(*entry)) return entry->told_bits;
  if (++entry->looks > kLooks && entry->all_is_told()) return ready(id);
  return entry->look();
}

SocketError AgentSockets::take_error(SocketId id) {
  const auto entry = find(id);
  if (entry == nullptr || entry->error_taken) return {};
  entry->forget_told();
  // Who closed without having asked what became of a connect does not ask now.
  if (entry->closed && (entry->state() & ShadowSide::kConnected) == 0) return {};
  if (entry->phase() == Phase::kEstablished && entry->was_reset()) entry->over = {ECONNRESET, Reason::kAborted};
  if (entry->closed && !entry->gone) entry->note_agent_gone();
  // A close tells what was lost, and nothing of how a conversation ended in which all had arrived.
  if (entry->closed && !entry->local && entry->over.code == 0 && (entry->state() & ShadowSide::kLost) == 0) return {};
  SocketError error = entry->error();
  // Of a close that was waited for: not everything arrived.
  if (error.code == 0 && entry->closed && (entry->state() & ShadowSide::kLost) != 0) error = {ECONNRESET, Reason::kClosed};
  entry->error_taken = error.code != 0;
  return error;
}

void AgentSockets::renew(SocketId id) {
  const auto entry = find(id);
  if (entry == nullptr || entry->closed || entry->over.code != 0 || entry->kind != Entry::Kind::kSession) return;
  const std::uint32_t state = entry->state();
  if ((state & ShadowSide::kOver) == 0 || (state & ShadowSide::kConnected) != 0) return;
  entry->forget_told();
  entry->kind = Entry::Kind::kPlain;
  entry->renewed = true;
  entry->error_taken = false;
}

void AgentSockets::set_buffer(SocketId id, std::uint32_t bytes, bool send) {
  const auto entry = find(id);
  if (entry != nullptr && !entry->closed) (void)entry->ask(AgentRequest::kBuffers, bytes, send ? AgentCall::kSend : 0);
}

}  // namespace stp::host
