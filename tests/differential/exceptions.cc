#include "tests/differential/exceptions.h"

#include <fmt/format.h>

#include <cerrno>

#include "tests/differential/run_exceptions.h"

namespace stp::differential {
bool both_fail(const Outcome& ours, int our_error, const Outcome& theirs, int their_error) {
  return ours.result == -1 && theirs.result == -1 && ours.error == our_error && theirs.error == their_error;
}

bool gives(const Outcome& outcome, int error) {
  const std::size_t bytes = outcome.detail.find(": ");
  if (bytes == std::string::npos) return false;
  const std::string value = outcome.detail.substr(bytes + 2), whole = fmt::format("{:x} 0 0 0", error);
  return !value.empty() && whole.starts_with(value);
}

bool excused(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs, Uses& uses) {
  const auto by = [&uses](Excuse which) {
    ++uses[static_cast<std::size_t>(which)];
    return true;
  };
  if (model.way().run) return run_excused(model, call, before, ours, theirs, uses);
  const Known& known = model.at(call.slot);
  if (call.slot == kOrdinaryFile && ours.result == -1 && ours.error == EBADF) return by(Excuse::kNotASocket);
  const bool sends = call.op == Op::kSend || call.op == Op::kWritev;
  if (sends && known.open && !known.connected && both_fail(ours, ENOTCONN, theirs, EPIPE)) return by(Excuse::kSendUnconnected);
  if (call.op == Op::kConnect && known.listening && both_fail(ours, EOPNOTSUPP, theirs, EISCONN)) return by(Excuse::kConnectListener);
  const bool empty = call.op == Op::kRecv && call.a == 0;
  if (empty && ours.result == 0 && theirs.result == -1 && theirs.error == EAGAIN) return by(Excuse::kEmptyReceive);
  const bool ended = call.slot < kSlots && known.connected && (before[static_cast<std::size_t>(call.slot)].events & (POLLHUP | POLLERR)) == POLLHUP;
  if (ended && call.op == Op::kPeername && known.write_shut && theirs.result == -1 && theirs.error == ENOTCONN) return by(Excuse::kAfterTheEnd);
  // The kernel says EPIPE (and sends SIGPIPE) where its peer's end had come before the reset.
  const bool left = known.connected && known.peer < 0;
  if (left && sends && both_fail(ours, ECONNRESET, theirs, EPIPE)) return by(Excuse::kResetAfterEnd);
  const bool asks = call.op == Op::kGetOption && call.a == 0;
  if (left && asks && gives(ours, ECONNRESET) && gives(theirs, EPIPE)) return by(Excuse::kResetAfterEnd);
  if (left && known.left_unread && known.write_shut && asks && gives(ours, ECONNRESET) && gives(theirs, 0))
    return by(Excuse::kUnreadAtClose);
  const bool lost = ours.result == -1 && (ours.error == ECONNRESET || ours.error == ETIMEDOUT);
  if (call.op == Op::kClose && left && known.blocking && lost && theirs.result == 0) return by(Excuse::kCloseTells);
  const bool receives = call.op == Op::kRecv || call.op == Op::kReadv;
  const bool over = call.slot < kSlots && (before[static_cast<std::size_t>(call.slot)].events & (POLLHUP | POLLERR)) == POLLHUP;
  const bool failed = ours.result == -1 && (ours.error == ECONNRESET || ours.error == ECONNREFUSED || ours.error == ENOTCONN);
  if (receives && over && !known.peer_ended && failed && theirs.result == 0) return by(Excuse::kNoEndAfterError);
  return false;
}

void excuse(const Model& model, const Known& known, State& ours, State& theirs, Uses& uses) {
  if (model.way().run) return run_excuse(model, known, ours, theirs, uses);
  if (known.left_unread && known.write_shut && (ours.events & POLLERR) != 0 && (theirs.events & (POLLERR | POLLHUP)) == POLLHUP) {
    ours.events = static_cast<short>(ours.events & ~POLLERR);
    ++uses[static_cast<std::size_t>(Excuse::kUnreadAtClose)];
  }
}

}  // namespace stp::differential
