#include "stp/conduit.h"

#include <algorithm>

#include "stp/plant.h"

namespace stp {

Conduit::Conduit(Core& core, Slot peer, ConduitOwner& owner)
    : core_(core), slot_(peer), owner_(owner), sender_(core, peer), receiver_(core, peer) {}

void Conduit::start(const Identity& self, const Identity& peer) {
  self_ = self;
  peer_ = peer;
  open_ = true;
  answers_.clear();
  sender_.start(self, peer);
  receiver_.start(self, peer);
  head_published_ = ack_published_ = counted_published_ = 0;
  ack_waits_since_ = 0;
  ack_soon_ = want_ack_ = cooling_ = polling_published_ = false;
  taken_unpublished_ = 0;
  leaving_ = false;
  awaited_ = 0;
  ack_in_ring_ = 0;
  their_sequence_ = 0;
  they_poll_ = false;
  gate_ack_ = gate_head_ = told_acked_ = 0;
  gate_dirty_ = true;  // says hello: the peer learns that I see it
  gate_retry_at_ = 0;
}

void Conduit::end() {
  open_ = false;
  gate_dirty_ = false;
  answers_.clear();
  sender_.stop();
  receiver_.stop();
}

void Conduit::refuse(const Identity& dead) {
  if (planted(Plant::kVerdictNotPublished)) return;
  refused_ = dead;
  if (!open_) {
    self_ = core_.self;
    peer_ = dead;
  }
  gate_dirty_ = true;
}

void Conduit::warm() { receiver_.warm(); }

void Conduit::answer(SessionId session, MessageBody body) {
  if (!open_) return;
  const bool reset = std::holds_alternative<ResetMessage>(body);
  if (reset && !answers_.empty() && answers_.back().session == session && std::holds_alternative<UnreadMessage>(answers_.back().body)) {
    answers_.back().body = std::move(body);  // it says that, and more
    return;
  }
  if (answers_.size() >= kMostAnswers + core_.geometry().sockets) return on_protocol_fault();
  answers_.push_back({.session = session, .body = std::move(body)});
}

void Conduit::fill(PacketBuilder& packet, std::uint64_t sequence) {
  while (!answers_.empty()) {
    if (!packet.append(answers_.front().session, answers_.front().body)) break;
    ++core_.counters.messages_sent;
    answers_.pop_front();
  }
  if (answers_.empty()) owner_.fill(slot_, packet, sequence);
  if (packet.empty() && owes_ack()) packet.keep();
  if (!packet.empty()) ack_in_ring_ = acknowledgeable();
}

void Conduit::on_protocol_fault() {
  ++core_.counters.protocol_faults;
  owner_.on_peer_fault(slot_, Reason::kProtocol);
}

// Makes room in the ring at once. False: a fault.
bool Conduit::take_ack(std::uint64_t ack) {
  const std::uint64_t before = sender_.acked();
  if (!sender_.on_ack(ack)) {
    on_protocol_fault();
    return false;
  }
  if (sender_.acked() != before) want_ack_ = false;
  return true;
}

void Conduit::tell_acked(std::uint64_t ack) {
  if (ack <= told_acked_) return;
  told_acked_ = ack;
  owner_.on_acked(slot_, ack);
}

void Conduit::on_ack_in_packet(std::uint64_t ack) {
  if (!take_ack(ack)) return;
  tell_acked(ack);
  if (receiver_.taken() >= gate_head_) tell_acked(gate_ack_);
}

void Conduit::on_gate(const Gate& gate) {
  if (!open_ || (!planted(Plant::kAnyGate) && (gate.sender != peer_ || gate.receiver != self_))) return;
  if (gate.sequence <= their_sequence_) return;  // seen, or an old write that landed late
  their_sequence_ = gate.sequence;
  if (gate.head > receiver_.taken() + core_.geometry().ring_blocks) return on_protocol_fault();  // more than a ring can hold
  if (gate.held > gate.ack) return on_protocol_fault();
  they_poll_ = (gate.flags & Gate::kPolling) != 0;
  receiver_.on_doorbell(gate.head);
  if ((gate.flags & Gate::kWantAck) != 0 && gate.ack_seen < receiver_.taken() && !planted(Plant::kAckInsideRing)) gate_dirty_ = true;
  if (!take_ack(gate.ack)) return;
  // A packet may have been acknowledged that was dropped, as its session had been reset: that is said in the ring, up to this head or, of what is
  // held, behind it, and counts first. Room in the ring does not wait for it.
  gate_ack_ = gate.ack - gate.held;
  gate_head_ = planted(Plant::kAckAheadOfReset) ? 0 : gate.head;
  if (receiver_.taken() >= gate_head_) tell_acked(gate_ack_);
}

bool Conduit::wants_gate() const {
  if (!open_) return false;
  if (sender_.half_full()) return true;
  return !sender_.all_acked() && (want_ack_ || (awaits_ack() && core_.now >= awaits_ack_since_ + kAckInPacketFirst));
}

std::uint64_t Conduit::ack_to_publish() const {
  if (planted(Plant::kAckTooEarly) && receiver_.announced() > receiver_.taken()) return receiver_.taken() + 1;
  return acknowledgeable();
}

// Nothing more while there is an answer that is not in a packet, a reset above all: who reads of both reads the reset first.
std::uint64_t Conduit::acknowledgeable() const { return holds_ack() ? counted_published_ : receiver_.taken(); }

bool Conduit::holds_ack() const { return !answers_.empty() && !planted(Plant::kAckAheadOfReset); }

// Room is never held back: two full rings would wait for each other, and the one of a host for itself does.
std::uint64_t Conduit::unpublished() const { return receiver_.taken() - (holds_ack() ? ack_published_ : counted_published_); }

bool Conduit::ack_due() const {
  if (planted(Plant::kAckInsideRing) || unpublished() == 0) return false;
  if (unpublished() >= core_.geometry().ring_blocks / 2 || (ack_soon_ && sender_.full())) return true;
  return ack_waits_since_ != 0 && core_.now - ack_waits_since_ >= kDelayedAck;
}

void Conduit::pump(bool streaming) {
  if (!has_messages()) return;
  // Announcements and credits of a stream can wait a moment for company; a program's own few bytes do not.
  const bool urgent = !answers_.empty() || owes_ack_soon() || owner_.has_urgent_messages(slot_);
  const Nanos pause = core_.computing.empty() ? kStreamPause : kLongStreamPause;
  if (streaming && !urgent && core_.now - sender_.last_write() < pause) return;
  if (!sender_.pump(*this, !streaming && urgent)) return;
  counted_published_ = acknowledgeable();
  ack_published_ = std::max(ack_published_, counted_published_);
  ack_waits_since_ = 0;
  ack_soon_ = false;
  if (!streaming || !receiver_.hot()) receiver_.warm();  // most messages have an answer
}

void Conduit::decide_gate() {
  if (unpublished() > 0 && ack_waits_since_ == 0) ack_waits_since_ = core_.now;
  if (sender_.check_timeout()) {
    want_ack_ = true;
    gate_dirty_ = true;
  }
  const bool doorbell = !they_poll_ && sender_.head() > head_published_;
  if (doorbell && !planted(Plant::kForgetDoorbell)) gate_dirty_ = true;
  if (ack_due()) gate_dirty_ = true;
  decide_polling();
}

// The flag costs a gate write each way, so it is raised only when packets keep coming, and a peer that was never
// told that I poll need not be told that I stop: it rings anyway.
void Conduit::decide_polling() {
  if (!receiver_.hot() || cooling_) return;
  if (receiver_.wants_to_cool()) {
    if (!polling_published_) {
      receiver_.cool();
      return;
    }
    cooling_ = true;
    gate_dirty_ = true;
  } else if (!polling_published_ && receiver_.taken() - taken_unpublished_ >= kPacketsToPublish) {
    gate_dirty_ = true;
  }
}

// In a quiet session a look beside one's own packet write only slows that write down. Never for long: taking input
// must not wait for output.
bool Conduit::own_write_first(bool streaming) const {
  return !streaming && sender_.writes_in_flight() > 0 && core_.now < own_write_until();
}

void Conduit::work(bool streaming) {
  if (open_) {
    pump(streaming);
    decide_gate();
    if (!streaming) receiver_.expect_answer(sender_.last_landed());
    receiver_.poll(*this, own_write_first(streaming), streaming ? kStreamPause : 0);
  }
  if (self_ != core_.self) gate_dirty_ = false;  // an earlier life of mine: its column may be another host's now
  if (gate_dirty_ && !gate_writing_ && core_.may_write && core_.now >= gate_retry_at_) write_gate();
}

void Conduit::write_gate() {
  Gate gate;
  gate.sender = self_;
  gate.receiver = peer_;
  gate.sequence = ++gate_sequence_;
  if (open_) {
    gate.head = planted(Plant::kForgetDoorbell) ? 0 : sender_.head();
    if (!planted(Plant::kAckInsideRing)) {
      gate.held = static_cast<std::uint32_t>(std::min<std::uint64_t>(receiver_.taken() - acknowledgeable(), UINT32_MAX));
      gate.ack = std::max(ack_to_publish(), receiver_.taken());
    }
    gate.ack_seen = sender_.acked();
    if (receiver_.hot() && !cooling_) gate.flags |= Gate::kPolling;
    polling_published_ = (gate.flags & Gate::kPolling) != 0;
    taken_unpublished_ = receiver_.taken();
    if (want_ack_) gate.flags |= Gate::kWantAck;
  }
  gate.refused_incarnation = refused_.incarnation;
  gate.refused_nonce = refused_.nonce;
  if (!gate_buffer_) gate_buffer_ = AlignedBuffer(core_.geometry().block_size);
  encode_gate(gate_buffer_.span(), gate, core_.uuid(), core_.geometry());
  head_published_ = gate.head;
  counted_published_ = acknowledgeable();
  ack_published_ = receiver_.taken();
  ack_waits_since_ = 0;
  ack_soon_ = false;
  gate_dirty_ = false;
  gate_writing_ = true;
  ++core_.counters.gates_written;
  core_.io.write(core_.geometry().gate(slot_, self_.slot), 1, gate_buffer_.data(), [this, cooled = cooling_](int error) {
    gate_writing_ = false;
    if (error != 0) {
      gate_dirty_ = true;
      gate_retry_at_ = core_.now + 50 * kMillisecond;
      return;
    }
    if (cooled && cooling_) {
      cooling_ = false;
      receiver_.cool();
    }
  });
}

Nanos Conduit::next_deadline(bool streaming) const {
  if (!open_) return gate_dirty_ && !gate_writing_ ? gate_retry_at_ : kNever;
  Nanos at = sender_.next_deadline();
  const Nanos look = receiver_.next_deadline();
  at = std::min(at, own_write_first(streaming) ? std::max(look, own_write_until()) : look);
  if (unpublished() > 0 && ack_waits_since_ != 0) at = std::min(at, ack_waits_since_ + kDelayedAck);
  if (gate_dirty_ && !gate_writing_) at = std::min(at, gate_retry_at_);
  if (ack_soon_ && unpublished() > 0 && core_.now < ack_by_) at = std::min(at, ack_by_);
  const Nanos wants_gate_at = awaits_ack_since_ + kAckInPacketFirst;
  if (awaits_ack() && core_.now < wants_gate_at) at = std::min(at, wants_gate_at);
  if (streaming && has_messages() && !sender_.full() && sender_.writes_in_flight() < 2) at = std::min(at, sender_.last_write() + kStreamPause);
  return at;
}

}  // namespace stp
