// The sockets of an agent's programs as people and scripts read them: queues, totals, rates, processes.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "hostlib/agent_stats.h"
#include "tools/table.h"

namespace stp::tools {

// Bytes a second of a socket, between two looks at it.
struct SocketRate {
  double sent = 0, received = 0;
};
using SocketRates = std::map<std::uint32_t, SocketRate>;  // by the agent's number

SocketRates rates_between(const std::vector<host::AgentSocketRow>& before, const std::vector<host::AgentSocketRow>& now, double seconds);

std::string bytes_text(double bytes);  // "1.5M"

// `rates` may be null: no columns for them.
Table agent_socket_table(const std::vector<host::AgentSocketRow>& rows, const SocketRates* rates, const std::string& host);
nlohmann::ordered_json agent_sockets_json(const std::vector<host::AgentSocketRow>& rows, const SocketRates* rates, const std::string& host);

}  // namespace stp::tools
