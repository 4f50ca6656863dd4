#include "tests/differential/run_exceptions.h"

#include <cerrno>

#include "tests/differential/exceptions.h"

namespace stp::differential {
namespace {

bool fails_alone(const Outcome& ours, int our_error, const Outcome& theirs) { return ours.result == -1 && ours.error == our_error && theirs.result == 0; }

// The other end has shut both directions.
bool ended_both(const Model& model, const Known& known) { return known.peer >= 0 && model.at(known.peer).read_shut && model.at(known.peer).write_shut; }

// poll and select show what states are compared by, and more of it.
bool some_stand_otherwise(const Model& model) {
  for (int slot = 0; slot < kSlots; ++slot)
    if (const Known& each = model.at(slot); each.peer_closed || each.reset || ended_both(model, each) || each.failed()) return true;
  return false;
}

// With its conversation open, or over.
std::optional<Excuse> of_conversation(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs) {
  const Known& known = model.at(call.slot);
  const bool sends = call.op == Op::kSend || call.op == Op::kWritev, receives = call.op == Op::kRecv || call.op == Op::kReadv;
  const bool asks = call.op == Op::kGetOption && call.a == 0;
  const short events = before[static_cast<std::size_t>(call.slot)].events;
  const bool gone = ended_both(model, known) || (known.peer < 0 && (events & (POLLHUP | POLLRDHUP)) != 0);
  switch (call.op) {
    case Op::kConnect:
      if (fails_alone(ours, EISCONN, theirs)) return Excuse::kConnectsAtOnce;
      if (known.write_shut && ours.result == 0 && theirs.error == EISCONN) return Excuse::kConnectsAtOnce;
      return std::nullopt;
    case Op::kPeername: return theirs.error == ENOTCONN ? std::optional(Excuse::kAfterTheEnd) : std::nullopt;
    case Op::kShutdown: return ours.result == 0 && theirs.result == -1 && theirs.error == ENOTCONN ? std::optional(Excuse::kAfterTheEnd) : std::nullopt;
    default: break;
  }
  if (sends && gone && both_fail(ours, EPIPE, theirs, ECONNRESET)) return Excuse::kSendAfterReset;
  if (sends && gone && fails_alone(ours, EPIPE, theirs)) return Excuse::kToldAtOnce;
  const bool no_more = known.read_shut && known.write_shut;
  if (receives && (no_more || known.ended_then_reset) && ours.result == 0 && theirs.error == ECONNRESET) return Excuse::kAfterTheEnd;
  if (receives && known.left_unread && fails_alone(ours, ECONNRESET, theirs)) return Excuse::kUnreadAtClose;
  if (receives && known.reset && fails_alone(ours, ECONNRESET, theirs)) return Excuse::kSendAfterReset;
  if (receives && gone && known.peer_ended && !model.way().together && fails_alone(ours, ECONNRESET, theirs)) return Excuse::kResetAfterEnd;
  if (asks && known.reset && gives(ours, ECONNRESET) && gives(theirs, 0)) return Excuse::kSendAfterReset;
  if (asks && gone && gives(ours, ECONNRESET) && gives(theirs, EPIPE)) return Excuse::kResetAfterEnd;
  if (asks && known.left_unread && no_more && gives(ours, 0) && gives(theirs, ECONNRESET)) return Excuse::kShowsNoReset;
  if (asks && known.peer_ended && gives(ours, 0) && gives(theirs, EPIPE)) return Excuse::kResetAfterEnd;
  return std::nullopt;
}

// Not connected, perhaps in vain.
std::optional<Excuse> of_others(const Known& known, const Call& call, const Outcome& ours, const Outcome& theirs) {
  const bool sends = call.op == Op::kSend || call.op == Op::kWritev, receives = call.op == Op::kRecv || call.op == Op::kReadv;
  const bool asks = call.op == Op::kGetOption && call.a == 0;
  if (call.op == Op::kConnect && !known.blocking && ours.result == 0 && theirs.result == -1 && theirs.error == EINPROGRESS) return Excuse::kConnectsAtOnce;
  if (sends && known.open && both_fail(ours, ENOTCONN, theirs, EPIPE)) return Excuse::kSendUnconnected;
  if (!known.failed()) return std::nullopt;
  if (sends && both_fail(ours, EPIPE, theirs, ECONNREFUSED)) return Excuse::kSendFailed;
  if (receives && fails_alone(ours, ECONNREFUSED, theirs)) return Excuse::kSendFailed;
  if (asks && gives(ours, ECONNREFUSED) && gives(theirs, 0)) return Excuse::kSendFailed;
  return std::nullopt;
}

}  // namespace

bool run_excused(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs, Uses& uses) {
  std::optional<Excuse> which;
  if (call.op == Op::kPoll || call.op == Op::kSelect)
    which = some_stand_otherwise(model) ? std::optional(Excuse::kHangsUp) : std::nullopt;
  else if (const Known& known = model.at(call.slot); known.connected)
    which = of_conversation(model, call, before, ours, theirs);
  else
    which = of_others(known, call, ours, theirs);
  if (which) ++uses[static_cast<std::size_t>(*which)];
  return which.has_value();
}

void run_excuse(const Model& model, const Known& known, State& ours, State& theirs, Uses& uses) {
  const auto by = [&uses](Excuse which) { ++uses[static_cast<std::size_t>(which)]; };
  const auto without = [](State& state, int events) { state.events = static_cast<short>(state.events & ~events); };
  const auto ends = [](const State& state) { return state.events & (POLLHUP | POLLERR); };
  if (known.failed() && (ours.events & theirs.events & POLLHUP) != 0) {
    ours.events = theirs.events;
    by(Excuse::kShowsFailed);
  }
  if ((known.peer_closed || ended_both(model, known)) && (ours.events & POLLHUP) != 0 && (theirs.events & POLLHUP) == 0) {
    without(ours, POLLHUP);
    by(Excuse::kHangsUp);
  }
  if ((known.reset || (known.left_unread && known.write_shut)) && (ours.events & POLLERR) != 0 && ends(theirs) == POLLHUP) {
    without(ours, POLLERR);
    by(Excuse::kSendAfterReset);
  }
  if (known.ended_then_reset && ends(ours) == 0 && (theirs.events & POLLERR) != 0) {
    without(theirs, POLLERR | POLLHUP);
    by(Excuse::kShowsNoReset);
  }
  if (known.peer_closed && (theirs.events & POLLERR) != 0 && ends(ours) == POLLHUP) {
    without(theirs, POLLERR);
    by(Excuse::kShowsNoReset);
  }
}

}  // namespace stp::differential
