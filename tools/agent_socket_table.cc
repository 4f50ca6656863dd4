#include "tools/agent_socket_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pwd.h>

#include <array>
#include <fstream>
#include <nlohmann/json.hpp>

namespace stp::tools {
namespace {

using host::AgentSocketRow;

std::string_view state_name(AgentSocketRow::State state) {
  using State = AgentSocketRow::State;
  switch (state) {
    case State::kUnbound: return "unbound";
    case State::kBound: return "bound";
    case State::kListening: return "listening";
    case State::kConnecting: return "connecting";
    case State::kEstablished: return "established";
    case State::kClosing: return "closing";
    case State::kGiven: return "given";
    case State::kOver: return "over";
  }
  return "?";
}

std::string user_text(std::uint32_t user) {
  if (user == AgentSocketRow::kHidden) return "-";
  const passwd* found = ::getpwuid(user);
  return found != nullptr ? found->pw_name : fmt::format("{}", user);
}

std::vector<std::uint32_t> pids_of(const AgentSocketRow& row) {
  std::vector<std::uint32_t> out;
  for (const std::uint32_t pid : row.pids)
    if (pid != 0 && pid != AgentSocketRow::kHidden) out.push_back(pid);
  return out;
}

std::string command_of(std::uint32_t pid) {
  std::ifstream in(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(in, name);
  for (char& c : name)
    if (c < ' ' || c > '~') c = '?';
  return name;
}

std::string processes_text(const AgentSocketRow& row) {
  std::vector<std::string> out;
  for (const std::uint32_t pid : pids_of(row)) {
    const std::string name = command_of(pid);
    out.push_back(name.empty() ? fmt::format("{}", pid) : fmt::format("{}({})", name, pid));
  }
  return out.empty() ? "-" : fmt::format("{}", fmt::join(out, ","));
}

// From another host's disk blocks, by way of the agent: nothing but a name is shown.
std::string peer_host_of(const AgentSocketRow& row) {
  std::string name(row.peer_host, ::strnlen(row.peer_host, sizeof row.peer_host));
  for (char& c : name)
    if (c < ' ' || c > '~') c = '?';
  return name;
}

}  // namespace

SocketRates rates_between(const std::vector<AgentSocketRow>& before, const std::vector<AgentSocketRow>& now, double seconds) {
  SocketRates rates;
  std::map<std::uint32_t, const AgentSocketRow*> old;
  for (const AgentSocketRow& row : before) old[row.number] = &row;
  for (const AgentSocketRow& row : now) {
    const auto was = old.find(row.number);
    const std::uint64_t sent = was == old.end() ? 0 : was->second->sent, received = was == old.end() ? 0 : was->second->received;
    // Counters that went back are another socket's, or a program's invention.
    if (seconds <= 0 || row.sent < sent || row.received < received) continue;
    rates[row.number] = {.sent = static_cast<double>(row.sent - sent) / seconds, .received = static_cast<double>(row.received - received) / seconds};
  }
  return rates;
}

std::string bytes_text(double bytes) {
  constexpr std::array<const char*, 5> units = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < units.size()) {
    bytes /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f}", bytes) : fmt::format("{:.{}f}{}", bytes, bytes < 10 ? 2 : bytes < 100 ? 1 : 0, units[unit]);
}

Table agent_socket_table(const std::vector<AgentSocketRow>& rows, const SocketRates* rates, const std::string& host) {
  std::vector<std::string> headings = {"STATE", ">RECV-Q", ">SEND-Q", "LOCAL", "PEER"};
  for (const char* heading : {">TX", ">RX"}) headings.emplace_back(heading);
  if (rates != nullptr)
    for (const char* heading : {">TX/s", ">RX/s"}) headings.emplace_back(heading);
  for (const char* heading : {"USER", "PROCESS"}) headings.emplace_back(heading);
  Table table(headings);
  for (const AgentSocketRow& row : rows) {
    const std::string peer_host = peer_host_of(row);
    std::vector<std::string> cells = {std::string(state_name(row.state)), fmt::format("{}", row.receive_queue), fmt::format("{}", row.send_queue),
                                      row.port == 0 ? fmt::format("{}:*", host) : fmt::format("{}:{}", host, row.port),
                                      peer_host.empty() ? "*:*" : fmt::format("{}:{}", peer_host, row.peer_port),
                                      bytes_text(static_cast<double>(row.sent)), bytes_text(static_cast<double>(row.received))};
    if (rates != nullptr) {
      const auto rate = rates->find(row.number);
      cells.push_back(rate == rates->end() ? "-" : bytes_text(rate->second.sent));
      cells.push_back(rate == rates->end() ? "-" : bytes_text(rate->second.received));
    }
    cells.push_back(user_text(row.user));
    cells.push_back(processes_text(row));
    table.add(std::move(cells));
  }
  return table;
}

nlohmann::ordered_json agent_sockets_json(const std::vector<AgentSocketRow>& rows, const SocketRates* rates, const std::string& host) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const AgentSocketRow& row : rows) {
    nlohmann::ordered_json j{{"host", host},
                             {"number", row.number},
                             {"state", state_name(row.state)},
                             {"local_port", row.port},
                             {"peer_host", peer_host_of(row)},
                             {"peer_port", row.peer_port},
                             {"same_agent", row.local != 0},
                             {"receive_queue", row.receive_queue},
                             {"send_queue", row.send_queue},
                             {"sent_bytes", row.sent},
                             {"received_bytes", row.received}};
    if (row.scb != host::kNoScb) j["scb"] = row.scb;
    if (row.user != AgentSocketRow::kHidden) {
      j["user"] = row.user;
      j["pids"] = pids_of(row);
    }
    if (rates != nullptr) {
      if (const auto rate = rates->find(row.number); rate != rates->end()) {
        j["sent_bytes_a_second"] = rate->second.sent;
        j["received_bytes_a_second"] = rate->second.received;
      }
    }
    out.push_back(std::move(j));
  }
  return out;
}

}  // namespace stp::tools
