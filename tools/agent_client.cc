#include "tools/agent_client.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace stp::tools {
namespace {

using host::AgentSocketRow;

}  // namespace

Result<AgentClient> AgentClient::connect(const std::string& agent, const std::string& stg) {
  auto link = host::AgentLink::connect({.agent_path = agent, .stg_path = stg, .host = {}});
  if (!link) return std::unexpected(link.error());
  return AgentClient(agent, std::move(*link));
}

Result<host::AgentLink::Reply> AgentClient::ask(const host::AgentCall& call) {
  auto reply = link_->ask(call);
  if (!reply) return fail(reply.error().code, fmt::format("the agent on \"{}\" does not tell: {}", agent_, std::strerror(reply.error().code)));
  return std::move(*reply);
}

Result<host::AgentStats> AgentClient::stats() {
  host::AgentCall call;
  call.what = host::AgentRequest::kStats;
  auto reply = ask(call);
  if (!reply) return std::unexpected(reply.error());
  host::AgentStats stats;
  if (reply->tail.size() != sizeof stats) return fail(EPROTO, fmt::format("the agent on \"{}\" is of another version", agent_));
  std::memcpy(&stats, reply->tail.data(), sizeof stats);
  return stats;
}

Result<std::vector<AgentSocketRow>> AgentClient::sockets() {
  std::vector<AgentSocketRow> rows;
  host::AgentCall call;
  call.what = host::AgentRequest::kSockets;
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

}  // namespace stp::tools
