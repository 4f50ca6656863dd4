// A conduit: everything between this host and one slot. A ring each way, the gate that I write for the peer, and
// the gate that the peer writes for me (read by GateRow for all conduits at once).
//
// A conduit lives for one pair of incarnations; when either ends, end() fails all that hangs on it, and it never
// starts again within that pair. The object stays and serves the next pair once every write of the old one was reaped.
//
// When the gate is written: to ring the doorbell of a peer that does not poll; to acknowledge when half a ring or some
// time has gone by without a packet to carry the ack; to say that I stop polling; to refuse a dead incarnation;
// and again whenever the peer says that it misses an ack.
#pragma once

#include <deque>
#include <functional>
#include <map>

#include "stp/core.h"
#include "stp/gate.h"
#include "stp/ring_receiver.h"
#include "stp/ring_sender.h"

namespace stp {

// What the engine does for its conduits.
class ConduitOwner {
 public:
  virtual ~ConduitOwner() = default;
  virtual void on_message(Slot peer, const Message& message) = 0;
  virtual void on_acked(Slot peer, std::uint64_t sequence) = 0;  // all packets up to it are in the peer's memory
  virtual void on_peer_fault(Slot peer, Reason reason) = 0;      // broke the protocol, or takes nothing
  // The sockets' messages for that peer, and whether any of them is worth a packet at once.
  virtual bool has_messages(Slot peer) const = 0;
  virtual bool has_urgent_messages(Slot peer) const = 0;
  virtual void fill(Slot peer, PacketBuilder& packet, std::uint64_t sequence) = 0;
};

class Conduit final : public MessageSource, public PacketHandler {
 public:
  Conduit(Core& core, Slot peer, ConduitOwner& owner);

  // -- Pairs of incarnations
  bool open() const { return open_; }
  const Identity& peer() const { return peer_; }
  bool quiet() const { return sender_.quiet() && receiver_.quiet() && !gate_writing_; }
  void start(const Identity& self, const Identity& peer);  // needs quiet()
  void end();
  // Publishes that this incarnation of the peer is refused, for good.
  void refuse(const Identity& dead);

  // -- Work
  void on_gate(const Gate& gate);
  // Submits packets, polls and the gate as due. `streaming`: bulk data is under way, batching beats haste.
  void work(bool streaming);
  Nanos next_deadline(bool streaming) const;
  // True while the peer's gate is worth more frequent looks.
  bool wants_gate() const;
  bool expects_soon() const { return receiver_.hot() && receiver_.idle() < 2 * kMillisecond; }
  // An answer is awaited: look often again.
  void warm();
  // An acknowledgement of what was just taken should not wait long (the peer lingers for it): at most until `at`.
  void acknowledge_by(Nanos at) {
    ack_by_ = ack_soon_ ? std::min(ack_by_, at) : at;
    ack_soon_ = true;
  }
  // This host leaves: what it took is acknowledged in packets from now on, as those are acknowledged in turn and gates are not.
  void take_leave() { leaving_ = true; }
  // The caller waits for the acknowledgement of this packet.
  void await_ack(std::uint64_t sequence) {
    if (!awaits_ack()) awaits_ack_since_ = core_.now;
    awaited_ = sequence;
  }

  // -- Answers that belong to no socket of mine (any more). Bounded: a peer that provokes more
  // than it takes has lost its mind.
  void answer(SessionId session, MessageBody body);

  std::uint64_t head() const { return sender_.head(); }
  std::uint64_t acked() const { return sender_.acked(); }
  bool all_sent() const { return answers_.empty() && sender_.writes_in_flight() == 0 && !gate_writing_ && !(ack_soon_ && unpublished() > 0) && !owes_last_ack(); }
  bool all_acked() const { return sender_.all_acked(); }
  // The peer writes nothing any more: looks until a look at its ring that began after `since` finds nothing new.
  bool heard_out(Nanos since) {
    if (!receiver_.hot()) receiver_.warm();
    return receiver_.nothing_since(since);
  }
  Nanos stuck_for() const { return sender_.stuck_for(); }

  // MessageSource
  bool has_messages() const override { return !answers_.empty() || owner_.has_messages(slot_) || owes_ack(); }
  void fill(PacketBuilder& packet, std::uint64_t sequence) override;
  std::uint64_t ack_to_publish() const override;
  // PacketHandler
  void on_ack_in_packet(std::uint64_t ack) override;
  void on_message(const Message& message) override { owner_.on_message(slot_, message); }
  void on_protocol_fault() override;

 private:
  static constexpr Nanos kDelayedAck = 20 * kMillisecond;
  static constexpr Nanos kStreamPause = 250 * kMicrosecond;  // between packets and looks while bulk data streams
  static constexpr Nanos kLongStreamPause = 500 * kMicrosecond;  // while more of the same is about to come: a fast device always brings more
  static constexpr Nanos kAckInPacketFirst = 500 * kMicrosecond;  // looks at the gate would only delay that
  static constexpr Nanos kOwnWriteFirst = 200 * kMicrosecond;
  static constexpr std::uint64_t kPacketsToPublish = 4;
  static constexpr std::size_t kMostAnswers = 32768;  // beside one for each socket: a program that ends may have had them all

  struct Answer {
    SessionId session;
    MessageBody body;
  };

  bool take_ack(std::uint64_t ack);
  void tell_acked(std::uint64_t ack);
  void pump(bool streaming);
  void decide_gate();
  void decide_polling();
  bool own_write_first(bool streaming) const;
  Nanos own_write_until() const { return receiver_.last_look() + kOwnWriteFirst; }
  void write_gate();
  bool ack_due() const;
  bool holds_ack() const;
  std::uint64_t acknowledgeable() const;
  bool owes_last_ack() const { return leaving_ && ack_in_ring_ < receiver_.spoken(); }
  // Who lingers for it looks at its ring for an answer, and at its gates now and then.
  bool owes_ack_soon() const { return ack_soon_ && core_.now >= ack_by_ && unpublished() > 0 && ack_in_ring_ < receiver_.taken(); }
  bool owes_ack() const { return owes_last_ack() || owes_ack_soon(); }
  bool awaits_ack() const { return awaited_ > sender_.acked(); }
  std::uint64_t unpublished() const;

  Core& core_;
  const Slot slot_;
  ConduitOwner& owner_;
  RingSender sender_;
  RingReceiver receiver_;
  Identity self_, peer_;
  bool open_ = false;
  bool leaving_ = false;
  std::uint64_t ack_in_ring_ = 0;  // the highest that a packet of mine carries

  std::deque<Answer> answers_;

  // My gate.
  AlignedBuffer gate_buffer_;
  std::uint64_t gate_sequence_ = 0;
  bool gate_dirty_ = false;
  bool gate_writing_ = false;
  Nanos gate_retry_at_ = 0;
  std::uint64_t head_published_ = 0;  // in a gate that was submitted
  std::uint64_t ack_published_ = 0;   // in a gate or packet that was submitted
  std::uint64_t counted_published_ = 0;  // the same, but for what counts as room alone
  Nanos ack_waits_since_ = 0;
  bool ack_soon_ = false;
  Nanos ack_by_ = 0;
  bool want_ack_ = false;
  bool cooling_ = false;             // the gate that says so is dirty or on its way
  bool polling_published_ = false;   // the last gate submitted said that I poll
  std::uint64_t taken_unpublished_ = 0;  // taken() when it was submitted
  std::uint64_t awaited_ = 0;  // the last packet whose acknowledgement somebody waits for
  Nanos awaits_ack_since_ = 0;
  Identity refused_;

  // The peer's gate, the newest seen of this pair.
  std::uint64_t their_sequence_ = 0;
  bool they_poll_ = false;
  // What it acknowledges, and does not hold, counts for the sessions once its ring has been read up to its head.
  std::uint64_t gate_ack_ = 0, gate_head_ = 0;
  std::uint64_t told_acked_ = 0;
};

}  // namespace stp
