// Sockets of a served program that other processes get: given and taken, or shared with the child of a fork.

#include <cerrno>

#include "hostlib/agent_sockets.h"

namespace stp::host {
SocketResult<void> AgentSockets::give(SocketId id, int descriptor, const ClientId& taker) {
  const auto entry = find(id);
  if (entry == nullptr || entry->closed) return no(EBADF);
  AgentCall call;
  call.what = AgentRequest::kGive;
  call.socket = entry->number;
  call.descriptor = static_cast<std::uint32_t>(descriptor);
  call.number = taker.program;
  call.token = taker.agent;
  if (auto reply = entry->link->ask(call); !reply) return std::unexpected(reply.error());
  entry->closed = entry->gone = true;
  ShadowEnd::wake(entry->end.mine());  // threads of this program that wait for it
  forget(id);
  return {};
}

SocketResult<SocketId> AgentSockets::take(const ClientId& giver, int descriptor) {
  if (!link_->room_for_descriptors()) return no(EMFILE);
  AgentCall call;
  call.what = AgentRequest::kTake;
  call.socket = static_cast<std::uint32_t>(descriptor);
  call.number = giver.program;
  call.token = giver.agent;
  auto reply = link_->ask(call);
  if (!reply) return std::unexpected(reply.error());
  const AgentAnswer answer = reply->answer;
  auto adopted = adopt(std::move(*reply), link_, true);
  if (!adopted) return std::unexpected(adopted.error());
  Entry& entry = **adopted;
  entry.backlog = answer.backlog;
  if (answer.kind == AgentAnswer::kListener) entry.kind = Entry::Kind::kListener;
  if (answer.kind == AgentAnswer::kSession) {
    entry.kind = Entry::Kind::kSession;
    entry.peer = {.host = get_text(answer.host), .stg = link_->superblock().stg, .port = static_cast<std::uint16_t>(answer.peer_port)};
    entry.send_shut = (entry.end.mine().ended.load(std::memory_order_acquire) & ShadowSide::kEnd) != 0;
    entry.read_shut = (entry.end.mine().deaf.load(std::memory_order_acquire) & ShadowSide::kDrops) != 0;
  }
  return entry.id;
}

bool AgentSockets::share() {
  std::vector<Entry*> ours;
  std::size_t alone = 0;
  for (const auto& [id, entry] : entries_) {
    if (entry->link != link_ || entry->closed) continue;
    ours.push_back(entry.get());
    alone += entry->family == nullptr ? 1 : 0;
  }
  auto locks = FamilyLock::make(alone);
  if (locks.size() != alone) return false;
  for (Entry* const entry : ours) {
    if (entry->family != nullptr) continue;
    entry->forget_told();
    entry->family = std::move(locks.back());
    locks.pop_back();
  }
  return !ours.empty();
}

void AgentSockets::leave_behind() {
  last_ = nullptr;
  entries_.clear();
  by_index_.clear();
  indexed_ = nullptr;
}

void AgentSockets::move_to(const std::shared_ptr<AgentLink>& heir) {
  last_ = nullptr;
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = *it->second;
    entry.sleepers = 0;
    if (entry.link == link_ && !entry.closed) entry.link = heir;
    it = entry.closed ? entries_.erase(it) : std::next(it);
  }
  if (indexed_ == link_.get()) indexed_ = heir.get();
  link_ = heir;
}

}  // namespace stp::host
