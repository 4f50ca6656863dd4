// One socket of this host, as the engine keeps it. Internal to Sockets.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "stp/engine.h"
#include "stp/receive_stream.h"
#include "stp/send_stream.h"

namespace stp {

struct Socket {
  enum class Kind : std::uint8_t { kPlain, kListener, kSession };
  enum class Phase : std::uint8_t {
    kNone,
    kOpening,      // OPEN is due or on its way
    kEstablished,  // from the acceptor's side: since OPEN was taken
    kOver,         // reset, refused, or the peer is gone: `error` says why
  };

  SocketId id = 0;
  std::uint32_t scb = 0;
  Kind kind = Kind::kPlain;
  Phase phase = Phase::kNone;
  std::uint16_t port = 0;
  std::optional<LocalConversation> local;  // display only
  bool owns_port = false;    // accepted sockets share their listener's
  bool closed = false;       // by its program; what was accepted still goes out
  bool drained_told = false;
  std::uint64_t made_ms = 0;

  // Listener.
  std::uint32_t backlog = 0;
  std::deque<SocketId> queue;

  // Session.
  Slot peer = kNoSlot;
  Identity peer_identity;
  SessionId session;
  std::string peer_name;
  std::uint16_t peer_port = 0;
  std::shared_ptr<SendStream> tx;
  std::shared_ptr<ReceiveStream> rx;
  SocketId listener = 0;      // in whose queue it waits, 0 = none
  bool wait_for_accept = false;
  bool tell_accepted = false;
  bool open_due = false;
  bool open_ack_due = false;
  bool accepted = false;      // by its program (acceptor's side)
  bool was_established = false;  // it will not connect a second time
  bool send_shut = false;
  bool stopped_reading = false;  // its program has closed: what was unread then, or comes after, is dropped, and the peer must learn it
  std::uint64_t dropped_before = 0;  // when it did: by the program's own wish
  bool left_unread = false;   // by the program, to whom it was handed over
  bool unread_told = false;
  std::uint64_t arrived = UINT64_MAX;  // what the peer had acknowledged when it said that it drops the rest
  bool lost = false;          // something accepted was never acknowledged, or dropped
  std::vector<Slot> instances;  // still to ask, when this one refuses
  SocketError error;            // sticky
  bool error_taken = false;

  std::uint32_t send_buffer = 0;
  std::uint32_t window = 0;
  std::uint32_t ready = 0;     // as last told
  bool talking = false;        // in its peer's list of talkers
  bool asked_in_line = false;  // waits_in_line() said so: its way out of the list is to be told
  Nanos scb_written = 0;
  std::uint64_t acked_before = 0;  // when the streams were last counted
  bool wants_room = false;         // stands in Sockets::roomless_

  // Its program has read the peer's stream to its end, and nothing of it was dropped.
  bool heard_all() const { return phase == Phase::kEstablished && rx->complete() && rx->readable() == 0 && rx->dropped() == 0 && !left_unread; }
  bool dropped_there() const { return tx->accepted() > arrived; }
  bool leaves_unread() const { return stopped_reading && (left_unread || rx->dropped() > dropped_before); }
  bool both_ended() const { return send_shut && tx->settled() && rx->complete(); }
  // The peer's direction has come to its end, or is not wanted any more. What came before may still be unread.
  bool gets_no_more() const { return rx->at_end() || rx->complete() || rx->discarding(); }
};

}  // namespace stp
