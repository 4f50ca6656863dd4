#include "hostlib/agent_socket_entry.h"

#include <cerrno>

namespace stp::host {
namespace {

AgentCall request_of(const AgentSocketEntry& entry, AgentRequest what, std::uint32_t number, std::uint32_t flags) {
  AgentCall call;
  call.what = what;
  call.socket = entry.number;
  call.number = number;
  call.flags = flags;
  return call;
}

}  // namespace

SocketResult<AgentLink::Reply> AgentSocketEntry::ask(AgentRequest what, std::uint32_t asked_number, std::uint32_t flags) const {
  return link->ask(request_of(*this, what, asked_number, flags));
}

bool AgentSocketEntry::tell(AgentRequest what, std::uint32_t flags) const { return link->tell(request_of(*this, what, 0, flags)); }

void AgentSocketEntry::refresh() {
  const auto reply = ask(AgentRequest::kInfo);
  if (!reply) return;
  port = static_cast<std::uint16_t>(reply->answer.port);
  local = reply->answer.local != 0;
  backlog = reply->answer.backlog;
  if (reply->answer.kind == AgentAnswer::kListener) kind = Kind::kListener;
  if (reply->answer.kind == AgentAnswer::kSession) {
    kind = Kind::kSession;
    peer = {.host = get_text(reply->answer.host), .stg = link->superblock().stg, .port = static_cast<std::uint16_t>(reply->answer.peer_port)};
  }
}

SocketError AgentSocketEntry::error() const {
  if (over.code != 0) return over;
  if (renewed) return {};
  ShadowSide& mine = end.mine();
  if ((state() & ShadowSide::kOver) == 0) return {};
  const auto code = static_cast<int>(mine.error.load(std::memory_order_relaxed));
  // In a local conversation the other program can write there: nothing that would be taken for "not yet".
  const bool sensible = code > 0 && code < 4096 && code != EAGAIN && code != EINPROGRESS && code != EALREADY && code != EINTR;
  return {sensible ? code : ECONNRESET, static_cast<Reason>(mine.reason.load(std::memory_order_relaxed))};
}

void AgentSocketEntry::note_agent_gone() {
  if (kind != Kind::kSession || phase() != Phase::kEstablished || (state() & ShadowSide::kDrained) != 0) return;
  if (link->dead()) over = {ECONNRESET, Reason::kAgentGone};
}

std::uint32_t AgentSocketEntry::bits() const {
  const FamilyGuard turn(family.get());
  return bits(static_cast<bool>(turn));
}

// `whole`: nobody else moves this side's counters meanwhile. Else they may seem to make no sense, which they do in a moment.
std::uint32_t AgentSocketEntry::bits(bool whole) const {
  const Phase now = phase();
  if (kind == Kind::kListener) {
    if (listen_error.code != 0) return Ready::kRead;
    if (over.code != 0) return 0;
    return end.mine().queued.load(std::memory_order_acquire) != 0 ? Ready::kRead : 0;
  }
  if (kind == Kind::kPlain) return now == Phase::kOver ? Ready::kConnect | Ready::kHangUp : 0;
  if (now == Phase::kOver) return Ready::kConnect | Ready::kRead | Ready::kWrite | Ready::kHangUp;
  if (now != Phase::kEstablished) return 0;
  std::uint32_t out = Ready::kConnect;
  const bool reset = was_reset() || (whole && end.broken());
  const bool at_end = end.at_end();
  if (end.readable() > 0 || at_end || reset || reads_no_more()) out |= Ready::kRead;
  if (sends_no_more() || end.deaf() != 0 || reset || end.room() > 0) out |= Ready::kWrite;
  if ((sends_no_more() && gets_no_more()) || reset) out |= Ready::kHangUp;
  return out;
}

std::uint32_t AgentSocketEntry::look() {
  if (family && kind == Kind::kPlain && !closed) refresh();
  const FamilyGuard turn(family.get());
  const bool whole = static_cast<bool>(turn);
  std::uint32_t out = bits(whole);
  const Phase now = phase();
  if (kind == Kind::kPlain && now == Phase::kNone) out |= Ready::kWrite | Ready::kHangUp;
  const bool reset = now == Phase::kEstablished && (was_reset() || (whole && end.broken()));
  const bool over_for_good = now == Phase::kOver && kind != Kind::kListener;  // a listener goes on with the next agent
  if (!error_taken && (reset || (over_for_good && error().code != 0))) out |= Ready::kError;
  if (over_for_good || (now == Phase::kEstablished && (reset || gets_no_more()))) out |= Ready::kPeerEnded;
  return out;
}

bool AgentSocketEntry::all_is_told() const { return !local && family == nullptr && kind == Kind::kSession && phase() == Phase::kEstablished; }

}  // namespace stp::host
