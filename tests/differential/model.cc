#include "tests/differential/model.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace stp::differential {
namespace {

constexpr int kMostUnread = 60'000;  // of a direction: neither side's buffers are full
constexpr int kMostUnreadUnix = 25'000;  // of a direction of a Unix socket, which counts more than the bytes
constexpr int kMostQueued = 12;

// It has a port that its program did not name, and tried to connect, in vain.
bool keeps_port(const Known& known) { return known.began && !known.connected && !known.named; }

bool peeks(const Call& call) { return call.b == 2 || call.b == 4 || call.b == 5; }

}  // namespace

int Model::listener_at(int port) const {
  for (int slot = 0; slot < kSlots; ++slot)
    if (at(slot).listening && at(slot).port == port) return slot;
  return -1;
}

int Model::free_slot() const {
  const auto found = std::ranges::find_if(known_, [](const Known& known) { return !known.open; });
  return found == known_.end() ? -1 : static_cast<int>(found - known_.begin());
}

// TCP resets a conversation when something comes after both directions were shut; STP drops it, as after the end of reading alone.
bool Model::wants_nothing(int slot) const { return slot >= 0 && at(slot).read_shut && at(slot).write_shut; }

// A socket stands otherwise on the two sides, as `excuse` of exceptions.h has it.
bool Model::shows_unread(const States& states) const {
  for (int slot = 0; slot < kSlots; ++slot)
    if (at(slot).left_unread && at(slot).write_shut && (states[static_cast<std::size_t>(slot)].events & (POLLHUP | POLLERR)) == POLLHUP) return true;
  return false;
}

Plan Model::plan_api(const Call& call, const States& states) const {
  const Known& known = at(call.slot);
  const short events = call.slot < kSlots ? states[static_cast<std::size_t>(call.slot)].events : POLLNVAL;
  const bool readable = (events & POLLIN) != 0, writable = (events & POLLOUT) != 0;
  Plan plan;
  switch (call.op) {
    case Op::kSocket:
      plan.target = free_slot();
      plan.skip = plan.target < 0;
      break;
    case Op::kAccept:
      plan.target = free_slot();
      plan.skip = plan.target < 0 || (known.listening && known.blocking && !readable);
      if ((call.b == 4 || call.b == 3) && readable) plan.excuse = Excuse::kLostByFault;
      break;
    case Op::kBind:
      if (known.connected && (events & POLLHUP) != 0) plan.excuse = Excuse::kAfterTheEnd;
      if (keeps_port(known)) plan.excuse = Excuse::kPortKept;
      break;
    case Op::kSockname:
      if (keeps_port(known)) plan.excuse = Excuse::kPortKept;
      break;
    case Op::kShutdown:
      if (known.connected && known.write_shut && (events & (POLLHUP | POLLERR)) == POLLHUP) plan.excuse = Excuse::kAfterTheEnd;
      break;
    case Op::kGetOption:
      if (call.a == 0 && call.b == 3 && (events & POLLERR) != 0) plan.excuse = Excuse::kLostByFault;
      break;
    case Op::kSetOption:
      if (call.a == 0 && (call.b & 3) == 3) plan.excuse = Excuse::kNegativeLinger;
      if (known.listening && known.queue > 0) plan.excuse = Excuse::kInheritedLate;
      break;
    case Op::kConnect: {
      const int listener = listener_at(call.a);
      if (known.connected && (events & POLLHUP) != 0) plan.excuse = Excuse::kAfterTheEnd;
      if (listener >= 0 && at(listener).queue >= at(listener).room) plan.excuse = Excuse::kBacklog;
      if (call.a == kNoPort && !known.blocking && !known.connected) plan.excuse = Excuse::kPortZero;
      if (known.port == call.a && call.a < kPorts && !known.listening) plan.excuse = Excuse::kSelfConnect;
      break;
    }
    case Op::kSend:
      plan.skip = known.unread + call.a > kMostUnread;
      plan.at_once = known.blocking && !writable;
      if (wants_nothing(known.peer)) plan.excuse = Excuse::kEndOfReading;
      break;
    case Op::kWritev:
      plan.skip = known.unread + 5000 > kMostUnread || (known.blocking && !writable);
      if (wants_nothing(known.peer)) plan.excuse = Excuse::kEndOfReading;
      break;
    case Op::kRecv:
      plan.at_once = known.blocking;
      if (call.a == 0 && (events & POLLERR) != 0) plan.excuse = Excuse::kEmptyReceive;
      if (known.left_unread && (events & POLLERR) != 0) plan.excuse = Excuse::kUnreadAtClose;
      break;
    case Op::kReadv:
      plan.skip = known.blocking && !readable;
      if (known.left_unread && (events & POLLERR) != 0) plan.excuse = Excuse::kUnreadAtClose;
      break;
    case Op::kFill:
      plan.peer = known.peer;
      plan.skip = plan.peer < 0 || known.unread != 0 || at(plan.peer).read_shut || at(plan.peer).peer != call.slot;
      break;
    case Op::kPoll:
    case Op::kSelect:
      if (shows_unread(states)) plan.excuse = Excuse::kUnreadAtClose;
      break;
    case Op::kClose: plan.skip = call.slot == kOrdinaryFile; break;
    default: break;
  }
  const bool sends = (call.op == Op::kSend && call.a > 0 && call.b != 3) || (call.op == Op::kWritev && call.a > 4);
  plan.notice = way_.together && sends && known.peer_closed && !known.write_shut && (events & (POLLHUP | POLLERR)) == 0;
  return plan;
}

Plan Model::plan(const Call& call, const States& states) const {
  const Plan plan = plan_api(call, states);
  return way_.run ? plan_run(call, plan) : plan;
}

Plan Model::plan_run(const Call& call, Plan plan) const {
  const Known& known = at(call.slot);
  const auto stays = {Excuse::kEndOfReading, Excuse::kAfterTheEnd, Excuse::kEmptyReceive, Excuse::kPortKept,
                      Excuse::kPortZero, Excuse::kBacklog, Excuse::kSelfConnect, Excuse::kLostByFault, Excuse::kInheritedLate};
  if (plan.excuse && std::ranges::find(stays, *plan.excuse) == stays.end()) plan.excuse.reset();
  switch (call.op) {
    case Op::kShutdown:
      if (call.a == SHUT_RD) plan.excuse = Excuse::kShutReading;
      if (known.open && !known.connected) plan.excuse = Excuse::kShutdownUnconnected;
      break;
    // No buffer: which is said first, that or the state.
    case Op::kSend:
      if (known.ended_then_reset) plan.excuse = Excuse::kShowsNoReset;
      plan.skip = plan.skip || call.b == 3 || known.unread + call.a > kMostUnreadUnix;
      break;
    case Op::kWritev:
      if (known.ended_then_reset) plan.excuse = Excuse::kShowsNoReset;
      plan.skip = plan.skip || known.unread + 5000 > kMostUnreadUnix || call.a == 2 || call.a == 4;
      break;
    case Op::kIoctl: plan.skip = call.a == 3 || call.a == 4 || call.a == 7; break;  // no place for the answer: the same
    case Op::kSockname:
    case Op::kPeername: plan.skip = call.a == static_cast<int>(Fault::kNull) || call.a == static_cast<int>(Fault::kNotMine); break;
    case Op::kConnect:
      plan.skip = plan.skip || (known.connected && call.b != 0);  // which is said first
      if (known.failure_told && !known.connected) plan.excuse = Excuse::kFailedStays;
      break;
    case Op::kBind:
      for (const Known& each : known_)
        if (each.connected && each.port == call.a && !known.began) plan.excuse = Excuse::kPortsFree;
      [[fallthrough]];
    case Op::kListen:
      if (known.failed()) plan.excuse = Excuse::kFailedStays;
      break;
    default: break;
  }
  return plan;
}

void Model::leave(int slot, bool unread) {
  for (Known& each : known_) {
    if (each.peer != slot) continue;
    each.peer = -1;
    each.peer_closed = true;
    each.left_unread = unread;
    each.ended_then_reset = at(slot).write_shut && at(slot).aborts;
    each.peer_ended = each.peer_ended || !at(slot).aborts;
  }
  of(slot) = {};
}

void Model::learn(const Call& call, const Plan& plan, const Outcome& outcome, const States& states) {
  const bool well = outcome.result >= 0;
  if (call.op == Op::kSocket && well) {
    of(plan.target) = {};
    of(plan.target).open = true;
    of(plan.target).blocking = call.a != 0;
  }
  if (call.slot >= kSlots || !at(call.slot).open) return;
  Known& known = of(call.slot);
  switch (call.op) {
    case Op::kBind:
      if (well && call.a != kNoPort) known.named = true;
      if (well && call.a < kPorts) known.port = call.a;
      break;
    case Op::kListen:
      if (!well) break;
      known.listening = true;
      known.room = call.a < 0 ? kMostQueued : std::clamp(call.a, 1, kMostQueued);
      break;
    case Op::kConnect:
      if (!well && outcome.error != EINPROGRESS && outcome.error != ECONNREFUSED) break;
      known.began = true;
      known.read_shut = known.write_shut = false;
      known.target = call.a;
      if (const int listener = listener_at(call.a); listener >= 0 && outcome.error != ECONNREFUSED) {
        known.connected = true;
        ++of(listener).queue;
      }
      break;
    case Op::kAccept: {
      if (!well) break;
      --known.queue;
      Known& made = of(plan.target);
      made = {};
      made.open = made.connected = made.began = made.named = true;
      made.blocking = call.a != 1;
      made.aborts = known.aborts;
      made.peer = outcome.from;
      made.peer_closed = made.peer < 0;  // while it was in the queue
      if (made.peer < 0) break;
      of(made.peer).peer = plan.target;
      made.peer_ended = of(made.peer).write_shut;
      break;
    }
    case Op::kSend:
    case Op::kWritev:
      if (well) known.unread += static_cast<int>(outcome.result);
      if (!well && outcome.error == ECONNREFUSED) known.failure_told = true;
      if (!well && known.connected && (outcome.error == ECONNRESET || outcome.error == EPIPE)) known.reset = true;
      break;
    case Op::kRecv:
    case Op::kReadv:
      if (!well && outcome.error == ECONNREFUSED) known.failure_told = true;
      if (known.peer >= 0 && outcome.result >= states[static_cast<std::size_t>(call.slot)].readable && !(call.op == Op::kRecv && peeks(call))) of(known.peer).unread = 0;
      break;
    case Op::kShutdown:
      if (!well) break;
      if (call.a != SHUT_WR) known.read_shut = true;
      if (call.a != SHUT_RD) known.write_shut = true;
      if (call.a != SHUT_RD && known.peer >= 0) of(known.peer).peer_ended = true;
      break;
    case Op::kSetOption:
      if (well && call.a == 0 && call.b != 7) known.aborts = (call.b & 3) == 1;
      break;
    case Op::kFcntl:
      if (well && call.a == 1) known.blocking = false;
      if (well && call.a == 2) known.blocking = true;
      break;
    case Op::kIoctl:
      if (well && call.a == 1) known.blocking = false;
      if (well && call.a == 2) known.blocking = true;
      break;
    case Op::kClose: leave(call.slot, states[static_cast<std::size_t>(call.slot)].readable > 0); break;
    default: break;
  }
}

}  // namespace stp::differential
