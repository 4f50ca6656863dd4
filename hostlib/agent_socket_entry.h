// One socket of a program that an agent serves, as the program's side knows it: what was asked for, how it stands with it by its shadow, and
// what it is ready for. Under the lock of the runtime.
#pragma once

#include <memory>

#include "hostlib/agent_link.h"
#include "hostlib/family_lock.h"
#include "hostlib/shadow.h"
#include "stp/socket_calls.h"
#include "stp/spin.h"

namespace stp::host {

struct AgentSocketEntry {
  enum class Kind : std::uint8_t { kPlain, kListener, kSession };
  SocketId id = 0;
  std::shared_ptr<AgentLink> link;
  std::uint32_t number = 0;  // the agent's
  std::uint32_t index = 0;   // on the news board
  // What AgentSockets::ready() said last. It holds until something is told of the socket, a call of this program may have changed it, or it
  // is doubted.
  std::uint32_t told_bits = 0;
  std::uint32_t told_in = 0;   // of AgentSockets::doubt(): in which time; 0: look
  std::uint32_t looks = 0;     // without asking for news, since a call last changed something
  std::uint32_t scb = 0;
  ShadowEnd end;
  std::shared_ptr<FamilyLock> family;  // a child or parent may have the socket too
  bool turn_missed = false;            // the last call found another of the family in the middle of a copy
  // Small receives without a send between them, and when the last one was.
  std::uint32_t small_in_a_row = 0;
  Nanos last_small_at = 0;
  bool gathers = false;                // the last call left what there was, for more to come: see AgentSockets::gathers
  Kind kind = Kind::kPlain;
  bool local = false;        // the other side is a program of the same agent
  bool send_shut = false;
  bool read_shut = false;
  bool closed = false;
  Nanos told_at = 0;         // when the agent was last told of the close, or asked about it
  bool gone = false;         // closed, and there is nobody to wait for
  SocketError listen_error;  // of a listener that could not be registered again
  SocketError over;          // found out on this side; what the agent found out is in the shadow
  bool error_taken = false;
  bool renewed = false;      // what the shadow says of an attempt to connect was told, and is forgotten
  std::uint16_t port = 0;
  Address peer;
  bool peer_known = false;   // which instance it is
  std::uint32_t backlog = 0;
  std::uint32_t sleepers = 0;  // threads in AgentWaiting::wait
  Spin output_spin;            // of waits for room

  // -- Asked of the agent
  SocketResult<AgentLink::Reply> ask(AgentRequest what, std::uint32_t asked_number = 0, std::uint32_t flags = 0) const;
  bool tell(AgentRequest what, std::uint32_t flags = 0) const;
  // What became of a socket that another process of the family may have bound, connected or made listen.
  void refresh();

  // -- How it stands with it
  enum class Phase : std::uint8_t { kNone, kOpening, kEstablished, kOver };
  Phase phase() const {
    if (over.code != 0) return Phase::kOver;
    if (kind == Kind::kListener || renewed) return Phase::kNone;
    const std::uint32_t now = state();
    if ((now & ShadowSide::kOver) != 0) return Phase::kOver;
    if (kind != Kind::kSession) return Phase::kNone;
    return (now & ShadowSide::kConnected) != 0 ? Phase::kEstablished : Phase::kOpening;
  }
  std::uint32_t state() const { return end.mine().state.load(std::memory_order_acquire); }  // what the agent says, ShadowSide::kConnected and so on
  // What a program of the family said for all of them is in the shadow.
  bool sends_no_more() const { return send_shut || (family && (end.mine().ended.load(std::memory_order_relaxed) & ShadowSide::kEnd) != 0); }
  bool reads_no_more() const { return read_shut || (family && (end.mine().deaf.load(std::memory_order_relaxed) & ShadowSide::kDrops) != 0); }
  // The other program ended the conversation with a reset. It is over; this side has yet to say so.
  bool was_reset() const { return (end.ended() & ShadowSide::kReset) != 0; }
  // The peer's direction has come to its end, or is not wanted any more. What came before may still be unread.
  bool gets_no_more() const { return (end.ended() & ShadowSide::kEnd) != 0 || reads_no_more(); }
  SocketError error() const;
  // A close may find out before the loss of the agent is told to everybody; and nobody knows what has arrived.
  void note_agent_gone();

  // -- Readiness
  // The bits of Ready, for those who wait for one of them.
  std::uint32_t bits() const;
  // As poll shows them. Of one that a family has, the agent may be asked.
  std::uint32_t look();
  // Whether it is enough to look when something is told. The agent tells all that it does to a conversation. Another program of the host does
  // it in the shadow at once, and its word comes later, by way of the agent; one of the family tells nothing.
  bool all_is_told() const;
  void forget_told() { told_in = looks = 0; }

 private:
  std::uint32_t bits(bool whole) const;
};

}  // namespace stp::host
