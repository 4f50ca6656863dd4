#include "hostlib/agent_client.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hostlib/host_list.h"

namespace stp::host {

Result<AgentClient> AgentClient::connect(const std::string& agent, const std::string& stg, unsigned patience_ms) {
  auto link = AgentLink::connect({.agent_path = agent, .stg_path = stg, .host = {}, .patience_ms = patience_ms});
  if (!link) return std::unexpected(link.error());
  return AgentClient(agent, std::move(*link));
}

Result<AgentLink::Reply> AgentClient::ask(const AgentCall& call) {
  auto reply = link_->ask(call);
  if (!reply) return fail(reply.error().code, fmt::format("the agent on \"{}\" does not tell: {}", agent_, std::strerror(reply.error().code)));
  return std::move(*reply);
}

Result<AgentStats> AgentClient::stats() {
  AgentCall call;
  call.what = AgentRequest::kStats;
  auto reply = ask(call);
  if (!reply) return std::unexpected(reply.error());
  AgentStats stats;
  if (reply->tail.size() != sizeof stats) return fail(EPROTO, fmt::format("the agent on \"{}\" is of another version", agent_));
  std::memcpy(&stats, reply->tail.data(), sizeof stats);
  return stats;
}

Result<std::vector<AgentSocketRow>> AgentClient::sockets() {
  std::vector<AgentSocketRow> rows;
  AgentCall call;
  call.what = AgentRequest::kSockets;
  do {
    auto reply = ask(call);
    if (!reply) return std::unexpected(reply.error());
    const std::size_t count = reply->tail.size() / sizeof(AgentSocketRow);
    const bool forward = reply->answer.socket == 0 || reply->answer.socket > call.number;
    if (reply->tail.size() % sizeof(AgentSocketRow) != 0 || !forward) return fail(EPROTO, fmt::format("the agent on \"{}\" is of another version", agent_));
    const std::size_t before = rows.size();
    rows.resize(before + count);
    if (count > 0) std::memcpy(rows.data() + before, reply->tail.data(), reply->tail.size());
    call.number = reply->answer.socket;
  } while (call.number != 0);
  return rows;
}

Result<MembershipBoard::View> AgentClient::hosts() {
  AgentCall call;
  call.what = AgentRequest::kView;
  auto reply = ask(call);
  if (!reply) return std::unexpected(reply.error());
  return decode_hosts(reply->tail);
}

bool AgentClient::dead() {
  pollfd connection = {.fd = link_->fd(), .events = POLLRDHUP, .revents = 0};
  if (!link_->dead() && ::poll(&connection, 1, 0) > 0) link_->die();
  return link_->dead();
}

Result<void> AgentClient::read(std::uint64_t block, Bytes into) {
  const std::size_t size = superblock().geometry.block_size;
  while (!into.empty()) {
    const Bytes piece = into.first(std::min(into.size(), kMostTail / size * size));
    AgentCall call;
    call.what = AgentRequest::kRead;
    call.token = block;
    call.number = static_cast<std::uint32_t>(piece.size() / size);
    auto reply = ask(call);
    if (!reply) {
      if (reply.error().code != EOPNOTSUPP) return std::unexpected(reply.error());
      return fail(EPROTO, fmt::format("the agent on \"{}\" is older than this program, and shows nobody the storage", agent_));
    }
    if (reply->tail.size() != piece.size()) return fail(EPROTO, fmt::format("the agent on \"{}\" is of another version", agent_));
    std::memcpy(piece.data(), reply->tail.data(), piece.size());
    into = into.subspan(piece.size());
    block += call.number;
  }
  return {};
}

}  // namespace stp::host
