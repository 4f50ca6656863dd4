// The session protocol: OPEN to RST, from the view of one host's sockets.

#include <algorithm>
#include <cerrno>

#include "stp/plant.h"
#include "stp/sockets.h"

namespace stp {
namespace {

// How long a FIN may wait for its acknowledgement, for which its sender lingers. Not at all where the program itself has the engine: nobody may
// come back to send it. An agent stays; and the program that was the first to end is likely to begin another conversation, whose OPEN takes it along.
Nanos patience_of_fin(bool second_to_end, bool driven_by_an_agent) { return second_to_end && driven_by_an_agent ? 400 * kMicrosecond : 0; }

int errno_of_reset(Reason reason) { return reason == Reason::kStorage ? EIO : ECONNRESET; }

}  // namespace

// -- Beginning

void Sockets::begin_session(Socket& s, Slot peer, SessionId session) {
  s.kind = Socket::Kind::kSession;
  s.local.reset();
  s.peer = peer;
  s.peer_identity = peers_.identity(peer);
  s.peer_name = peers_.name(peer);
  s.session = session;
  s.talking = false;  // it may still stand in the line of another peer, who will pass it over
  const auto changed = [this, id = s.id] { on_stream_changed(id); };
  if (s.rx) s.rx->abandon();
  s.acked_before = 0;
  s.arrived = UINT64_MAX;
  s.tx = std::make_shared<SendStream>(core_, cache_, send_budget_, peer, s.send_buffer, changed);
  s.rx = std::make_shared<ReceiveStream>(core_, receive_budget_, peer, s.window, changed);
  sessions_[{peer, session}] = s.id;
  cache_.set_peer_alive(peer, true);
}

// Asks the next living instance of the host; when none is left the socket ends with what the last one said.
void Sockets::open_next_instance(Socket& s) {
  while (!s.instances.empty()) {
    const Slot peer = s.instances.front();
    s.instances.erase(s.instances.begin());
    if (!peers_.reachable(peer)) continue;
    // At home the answer is known, and must be today's: an OPEN that takes its way over the disk may meet a listener that came later,
    // which an agent would have joined directly.
    if (peer == core_.self.slot && !listeners_.contains(s.peer_port)) {
      s.error = {ECONNREFUSED, Reason::kNoListener};
      continue;
    }
    s.phase = Socket::Phase::kOpening;
    begin_session(s, peer, {.counter = planted(Plant::kReuseSessionId) ? 1 : next_session_++, .initiator = true});
    s.open_due = true;
    arm_connect_timeout(s.id, s.session.counter);
    write_scb(s, true);
    touch(s);
    return;
  }
  s.kind = Socket::Kind::kSession;
  s.phase = Socket::Phase::kOver;
  if (s.error.code == 0) s.error = {EHOSTDOWN, Reason::kHostDead};
  write_scb(s, true);
  tell_ready(s, false);
}

void Sockets::arm_connect_timeout(SocketId id, std::uint64_t counter) {
  const Nanos timeout = core_.config.connect_timeout != 0 ? core_.config.connect_timeout : patience();
  core_.timers.at(core_.now + timeout, [this, id, counter] {
    Socket* s = find(id);
    if (s == nullptr || s->phase != Socket::Phase::kOpening || s->session.counter != counter) return;
    reset(*s, ETIMEDOUT, Reason::kSilent, Reason::kAborted);
  });
}

// No honest wait for a peer lasts longer.
Nanos Sockets::patience() const { return 2 * static_cast<Nanos>(core_.superblock().timing.detection_ms()) * kMillisecond; }

// A closed socket whose peer takes nothing for that long is given up: it holds memory, a port and an SCB.
void Sockets::arm_close_timeout(SocketId id, std::uint64_t acked_before) {
  core_.timers.at(core_.now + patience(), [this, id, acked_before] {
    Socket* s = find(id);
    if (s == nullptr || s->phase != Socket::Phase::kEstablished) return;
    if (s->tx->acked() > acked_before) return arm_close_timeout(id, s->tx->acked());
    reset(*s, ETIMEDOUT, Reason::kSilent, Reason::kAborted);
  });
}

// Counters of sessions begin anew with each life of a peer: the entry may be another socket's by now.
void Sockets::forget_session(const Socket& s) {
  const auto it = sessions_.find({s.peer, s.session});
  if (it != sessions_.end() && it->second == s.id) sessions_.erase(it);
}

void Sockets::on_open(Slot peer, SessionId id, const OpenMessage& m) {
  const auto refuse = [&](Reason reason) { peers_.answer(peer, id, RefuseMessage{reason}); };
  if (sessions_.contains({peer, id}) || id.initiator) {
    ++core_.counters.protocol_faults;
    return;
  }
  const auto listening = listeners_.find(m.destination_port);
  if (listening == listeners_.end()) return refuse(Reason::kNoListener);
  Socket& listener = *find(listening->second);
  if (listener.queue.size() >= listener.backlog) return refuse(Reason::kBacklogFull);
  const auto opened = open();
  if (!opened) return refuse(Reason::kNoSockets);
  Socket& s = *find(*opened);
  s.port = listener.port;
  s.send_buffer = listener.send_buffer;
  s.window = listener.window;
  s.phase = Socket::Phase::kEstablished;
  s.was_established = true;
  begin_session(s, peer, id);
  s.peer_port = m.source_port;
  s.tell_accepted = m.tell_accepted;
  s.tx->set_limit(m.limit);
  s.open_ack_due = true;
  s.listener = listener.id;
  listener.queue.push_back(s.id);
  write_scb(s, true);
  touch(s);
  tell_ready(listener, true);
}

void Sockets::on_open_ack(Socket& s, const OpenAckMessage& m) {
  if (!s.session.initiator) return reset(s, ECONNRESET, Reason::kProtocol, Reason::kProtocol);
  s.tx->set_limit(m.limit);
  if (s.phase == Socket::Phase::kOpening && (m.accepted || !s.wait_for_accept)) {
    s.phase = Socket::Phase::kEstablished;
    s.was_established = true;
    s.error = {};
    write_scb(s, true);
  }
  touch(s);
}

void Sockets::on_refuse(Socket& s, const RefuseMessage& m) {
  if (s.phase != Socket::Phase::kOpening) return reset(s, ECONNRESET, Reason::kProtocol, Reason::kProtocol);
  // "Nobody listens there" of one instance is worth less than a full queue of another.
  const bool weaker = s.error.code != 0 && m.reason == Reason::kNoListener;
  if (!weaker) s.error = {ECONNREFUSED, m.reason};
  forget_session(s);
  s.tx->abandon();
  open_next_instance(s);
}

// -- Ending

void Sockets::over(Socket& s, int code, Reason reason) {
  forget_session(s);
  const bool both_ended = s.phase == Socket::Phase::kEstablished && s.both_ended();
  if (s.phase == Socket::Phase::kEstablished && (!s.tx->settled() || s.dropped_there())) s.lost = true;
  s.phase = Socket::Phase::kOver;
  s.tx->abandon();
  s.open_due = s.open_ack_due = false;
  // Both directions had come to their end: there is nothing to complain about, unless the peer did not read all that it got.
  s.error_taken = both_ended && reason != Reason::kClosed;
  if (!s.error_taken) s.error = {code, reason};
  if (s.closed) {
    if (!s.drained_told) destroy(s);
    return;
  }
  write_scb(s, true);
  s.ready = 0;  // whatever somebody waits for: there is nothing to wait for any more
  tell_ready(s, true);
}

void Sockets::reset(Socket& s, int code, Reason reason, Reason tell_peer) {
  ++core_.counters.resets_sent;
  peers_.answer(s.peer, s.session, ResetMessage{.reason = tell_peer, .heard_all = s.heard_all()});
  over(s, code, reason);
}

// Whoever has said all, and is told that it was heard, has lost nothing, although the acknowledgement of the end is still on its way.
void Sockets::on_reset(Socket& s, const ResetMessage& m) {
  if (planted(Plant::kIgnoreReset)) return;
  ++core_.counters.resets_taken;
  if (m.heard_all && s.phase == Socket::Phase::kEstablished) s.tx->on_heard_all();
  over(s, s.phase == Socket::Phase::kOpening ? ECONNREFUSED : errno_of_reset(m.reason), m.reason);
}

// A closed socket goes when everything it accepted is in the peer's memory. If its program left something unread, the
// peer is told so: a sender that is still open must get the error.
void Sockets::finish_closed(Socket& s) {
  if (s.drained_told || s.phase != Socket::Phase::kEstablished || (!s.tx->settled() && !planted(Plant::kCloseWithoutLinger))) return;
  // Announced extents that were not fetched yet would be waited for at the other end, for ever.
  const bool cut = s.leaves_unread() || s.rx->fetching();
  if (!cut && s.rx->has_messages()) return;  // the peer may wait for them: CONSUMED, or the credit to learn that nobody takes more
  if (cut) peers_.answer(s.peer, s.session, ResetMessage{Reason::kClosed});
  s.lost |= s.dropped_there();
  forget_session(s);
  s.phase = Socket::Phase::kOver;
  s.tx->abandon();
  destroy(s);
}

// What was dropped is about to be acknowledged, and the reset waits until the peer has all that was said here: a peer that closes meanwhile
// must not take it for arrived.
void Sockets::tell_unread(Socket& s) {
  if (s.unread_told || s.phase != Socket::Phase::kEstablished || !s.leaves_unread() || planted(Plant::kDropUntold)) return;
  s.unread_told = true;
  peers_.answer(s.peer, s.session, UnreadMessage{});
}

void Sockets::on_peer_up(Slot peer) { cache_.set_peer_alive(peer, true); }

void Sockets::on_peer_down(Slot peer, Reason reason) {
  cache_.set_peer_alive(peer, false);
  std::vector<SocketId> concerned;
  for (auto it = sessions_.lower_bound({peer, SessionId{}}); it != sessions_.end() && it->first.first == peer; ++it) concerned.push_back(it->second);
  for (const SocketId id : concerned) {
    Socket* s = find(id);
    if (s == nullptr || s->drained_told) continue;
    if (s->phase == Socket::Phase::kOpening) {
      s->error = {reason == Reason::kHostDead || reason == Reason::kHostLeft ? EHOSTDOWN : ECONNRESET, reason};
      forget_session(*s);
      s->tx->abandon();
      open_next_instance(*s);
    } else {
      over(*s, ECONNRESET, reason);
    }
  }
  talkers_[peer].clear();
  emitted_[peer].clear();
  for (const auto& entry : sockets_)
    if (entry.second->peer == peer) entry.second->talking = false;
}

void Sockets::end_life(Reason reason) {
  for (Slot peer = 0; peer < core_.geometry().hosts; ++peer) on_peer_down(peer, reason);
  table_.behind().clear();
  ports_.behind().clear();
}

void Sockets::begin_life() {
  for (const auto& [id, socket] : sockets_)
    if (socket->local) write_scb(*socket, true);  // they are their own peers, in this life
  table_.mark_all();
  ports_.mark_all();
}

// -- Messages out

bool Sockets::socket_has_messages(const Socket& s) const {
  if (s.open_due || s.open_ack_due) return true;
  return s.phase == Socket::Phase::kEstablished && (s.tx->has_messages() || s.rx->has_messages());
}

bool Sockets::socket_has_urgent_messages(const Socket& s) const {
  if (s.open_due || s.open_ack_due) return true;
  return s.phase == Socket::Phase::kEstablished && s.tx->has_urgent_messages();
}

void Sockets::note_talker(Socket& s) {
  if (s.talking || !socket_has_messages(s)) return;
  s.talking = true;
  talkers_[s.peer].push_back(s.id);
}

bool Sockets::has_urgent_messages(Slot peer) const {
  constexpr std::size_t kFewTalkers = 16;
  const auto& talkers = talkers_[peer];
  if (talkers.size() > kFewTalkers) return true;  // company enough for a packet
  return std::ranges::any_of(talkers, [this](SocketId id) {
    const Socket* s = find(id);
    return s != nullptr && socket_has_urgent_messages(*s);
  });
}

void Sockets::emit(Socket& s, PacketBuilder& packet, std::uint64_t sequence) {
  if (s.open_due) {
    const OpenMessage m{.destination_port = s.peer_port, .source_port = s.port, .scb = s.scb, .tell_accepted = s.wait_for_accept,
                        .limit = s.rx->limit_for_open()};
    if (!packet.append(s.session, m)) return;
    s.open_due = false;
    ++core_.counters.messages_sent;
  }
  if (s.open_ack_due) {
    if (!packet.append(s.session, OpenAckMessage{.accepted = s.accepted, .scb = s.scb, .limit = s.rx->limit_for_open()})) return;
    s.open_ack_due = false;
    ++core_.counters.messages_sent;
  }
  if (s.phase != Socket::Phase::kEstablished) return;
  s.rx->emit(packet, s.session);
  if (!s.tx->emit(packet, s.session, sequence)) return;
  tell_ready(s, false);  // what was lent and went in packets came back
  ++core_.counters.messages_sent;
  if (emitted_[s.peer].empty() || emitted_[s.peer].back().sequence != sequence || emitted_[s.peer].back().socket != s.id)
    emitted_[s.peer].push_back({sequence, s.id});
  if (s.tx->finished()) peers_.await_ack(s.peer, sequence);
}

void Sockets::fill(Slot peer, PacketBuilder& packet, std::uint64_t sequence) {
  auto& talkers = talkers_[peer];
  for (std::size_t turns = talkers.size(); turns > 0; --turns) {
    const SocketId id = talkers.front();
    talkers.pop_front();
    Socket* s = find(id);
    if (s == nullptr || s->peer != peer) continue;
    s->talking = false;
    emit(*s, packet, sequence);
    note_talker(*s);  // to the end of the line
    if (s->closed) finish_closed(*s);
    if (s->talking && packet.data_room() < 64) return;
  }
}

void Sockets::on_acked(Slot peer, std::uint64_t sequence) {
  auto& emitted = emitted_[peer];
  while (!emitted.empty() && emitted.front().sequence <= sequence) {
    const SocketId id = emitted.front().socket;
    emitted.pop_front();
    Socket* s = find(id);
    if (s == nullptr || s->peer != peer || s->phase != Socket::Phase::kEstablished) continue;
    s->tx->on_packet_acked(sequence);
    touch(*s);
  }
}

// -- Messages in

void Sockets::on_message(Slot peer, const Message& message) {
  if (const auto* open = std::get_if<OpenMessage>(&message.body)) return on_open(peer, message.session, *open);
  const auto it = sessions_.find({peer, message.session});
  if (it == sessions_.end()) return on_unknown_session(peer, message);
  Socket& s = *find(it->second);
  if (const auto* ack = std::get_if<OpenAckMessage>(&message.body)) return on_open_ack(s, *ack);
  if (const auto* refuse = std::get_if<RefuseMessage>(&message.body)) return on_refuse(s, *refuse);
  if (const auto* rst = std::get_if<ResetMessage>(&message.body)) return on_reset(s, *rst);
  on_stream_message(s, message);
}

// Data for a session that has ended here: its sender must learn that nobody takes it. Everything else is an echo of the past.
void Sockets::on_unknown_session(Slot peer, const Message& message) {
  // The second to close waits for the acknowledgement of its end, as the first did.
  if (std::holds_alternative<FinMessage>(message.body)) return peers_.acknowledge_within(peer, patience_of_fin(true, core_.config.answers_from_afar));
  const bool data = std::holds_alternative<DataMessage>(message.body) || std::holds_alternative<ExtentMessage>(message.body);
  if (data || std::holds_alternative<OpenAckMessage>(message.body)) peers_.answer(peer, message.session, ResetMessage{Reason::kClosed});
}

void Sockets::on_stream_message(Socket& s, const Message& message) {
  bool good = true;
  bool readable = false;
  const std::uint64_t acked = s.tx->acked();
  if (const auto* data = std::get_if<DataMessage>(&message.body)) {
    good = s.rx->on_data(data->offset, data->bytes);
    readable = true;
  } else if (const auto* extent = std::get_if<ExtentMessage>(&message.body)) {
    good = s.rx->on_extent(*extent);
  } else if (const auto* credit = std::get_if<CreditMessage>(&message.body)) {
    s.tx->set_limit(credit->limit);
  } else if (const auto* consumed = std::get_if<ConsumedMessage>(&message.body)) {
    good = s.tx->on_consumed(consumed->offset);
    bulk_.note_consumed(s.tx->acked() - acked);
  } else if (const auto* nack = std::get_if<NackMessage>(&message.body)) {
    good = s.tx->on_nack(nack->offset, nack->length, nack->attempt);
  } else if (std::holds_alternative<UnreadMessage>(message.body)) {
    s.arrived = std::min(s.arrived, acked);
  } else if (const auto* fin = std::get_if<FinMessage>(&message.body)) {
    good = s.rx->on_fin(fin->total);
    peers_.acknowledge_within(s.peer, patience_of_fin(s.send_shut, core_.config.answers_from_afar));
    readable = true;
    write_scb(s, true);
  }
  // A peer that takes messages for this session before it was queued there has lost its mind.
  if (!good || s.phase == Socket::Phase::kOpening) {
    ++core_.counters.protocol_faults;
    return reset(s, ECONNRESET, Reason::kProtocol, Reason::kProtocol);
  }
  if (readable) tell_ready(s, true);
  touch(s);
}

void Sockets::on_stream_changed(SocketId id) {
  Socket* s = find(id);
  if (s == nullptr || s->drained_told || s->phase == Socket::Phase::kOver) return;
  if (s->rx->failed()) return reset(*s, ECONNRESET, Reason::kDamaged, Reason::kDamaged);
  if (s->tx->failed()) return reset(*s, EIO, Reason::kStorage, Reason::kStorage);
  tell_ready(*s, true);
  touch(*s);
}

}  // namespace stp
