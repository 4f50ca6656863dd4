// `stp stats`: what an agent counts, as Prometheus text.

#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <vector>

#include "hostlib/agent_link.h"
#include "hostlib/agent_stats.h"
#include "tools/commands.h"

namespace stp::tools {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Answer {
  host::AgentStats stats;
  std::string host, stg;
};

Result<Answer> ask(const std::string& agent, const std::string& stg) {
  auto link = host::AgentLink::connect({.agent_path = agent, .stg_path = stg, .host = {}});
  if (!link) return std::unexpected(link.error());
  host::AgentCall call;
  call.what = host::AgentRequest::kStats;
  auto reply = (*link)->ask(call);
  if (!reply) return fail(reply.error().code, fmt::format("the agent on \"{}\" gives no statistics: {}", agent, std::strerror(reply.error().code)));
  Answer answer{.stats = {}, .host = (*link)->own_name(), .stg = (*link)->superblock().stg};
  if (reply->tail.size() != sizeof answer.stats) return fail(EPROTO, fmt::format("the agent on \"{}\" is of another version", agent));
  std::memcpy(&answer.stats, reply->tail.data(), sizeof answer.stats);
  return answer;
}

std::vector<MetricFamily> families(const Answer& answer) {
  std::vector<MetricFamily> out;
  const auto add = [&](const char* name, const char* help, MetricType type, std::uint64_t value) {
    ClientMetric metric;
    metric.label = {{.name = "stg", .value = answer.stg}, {.name = "host", .value = answer.host}};
    (type == MetricType::Gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(value);
    out.push_back({.name = name, .help = help, .type = type, .metric = {metric}});
  };
  const auto gauge = [&](const char* name, const char* help, std::uint64_t value) { add(name, help, MetricType::Gauge, value); };
  const auto count = [&](const char* name, const char* help, std::uint64_t value) { add(name, help, MetricType::Counter, value); };
  const host::AgentCounters& a = answer.stats.agent;
  const EngineCounters& e = answer.stats.engine;
  gauge("stp_agent_programs", "Programs that are connected to the agent", a.programs);
  gauge("stp_agent_sockets", "Sockets that the agent has, closing ones included", a.sockets);
  count("stp_agent_programs_total", "Programs that were let in", a.programs_served);
  count("stp_agent_sockets_opened_total", "Sockets that programs opened", a.sockets_opened);
  count("stp_agent_connects_total", "Connects that programs began", a.connects);
  count("stp_agent_local_connects_total", "Connects between two programs of the agent", a.local_connects);
  count("stp_agent_accepts_total", "Connections that programs accepted", a.accepts);
  count("stp_agent_sockets_handed_over_total", "Sockets that one program gave and another took", a.sockets_handed_over);
  count("stp_agent_sent_bytes_total", "Bytes that programs sent to other hosts", a.bytes_sent);
  count("stp_agent_received_bytes_total", "Bytes that programs got from other hosts", a.bytes_received);
  count("stp_agent_refused_requests_total", "Requests that were answered with an error", a.refused_requests);
  count("stp_storage_reads_total", "Reads from the storage", e.reads);
  count("stp_storage_writes_total", "Writes to the storage", e.writes);
  count("stp_storage_read_bytes_total", "Bytes read from the storage", e.read_bytes);
  count("stp_storage_written_bytes_total", "Bytes written to the storage", e.write_bytes);
  count("stp_storage_errors_total", "Reads and writes that failed", e.io_errors);
  count("stp_packets_sent_total", "Packets written", e.packets_sent);
  count("stp_packets_taken_total", "Packets of other hosts taken", e.packets_taken);
  count("stp_packets_rewritten_total", "Packets written again, because they were not where they belong", e.packets_rewritten);
  count("stp_messages_sent_total", "Messages in packets written", e.messages_sent);
  count("stp_messages_taken_total", "Messages in packets taken", e.messages_taken);
  count("stp_gates_written_total", "Gate blocks written", e.gates_written);
  count("stp_extents_sent_total", "Extents of bulk data announced", e.extents_sent);
  count("stp_extents_taken_total", "Extents of bulk data taken", e.extents_taken);
  count("stp_extents_renewed_total", "Extents written again, because the other host asked for it", e.extents_renewed);
  count("stp_damaged_packets_total", "Packets that did not check", e.damaged_packets);
  count("stp_damaged_gates_total", "Gates that did not check", e.damaged_gates);
  count("stp_damaged_extents_total", "Extents that did not check", e.damaged_extents);
  count("stp_protocol_faults_total", "Messages that broke the protocol", e.protocol_faults);
  count("stp_unknown_messages_total", "Messages of unknown types, passed over", e.unknown_messages);
  count("stp_resets_sent_total", "Conversations reset by this host", e.resets_sent);
  count("stp_resets_taken_total", "Conversations reset by other hosts", e.resets_taken);
  return out;
}

}  // namespace

void add_stats_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("stats", "Print what the agent of this host counts, as Prometheus text (version 0.0.4)");
  auto agent = std::make_shared<std::string>(host::kDefaultAgentPath);
  add_stg_option(*command, context);
  command->add_option("--agent", *agent, "Unix socket of the agent")->envname("STP_AGENT")->capture_default_str()->type_name("PATH");
  command->footer("Where the agent serves several storage systems, --stg says which one; else the first.\nExit status: 0 printed, 1 failed, 2 wrong use.");
  command->callback([command, agent, &context] {
    const auto answer = ask(*agent, context.stg);
    if (!answer) {
      context.status = complain(*command, answer.error());
      return;
    }
    prometheus::TextSerializer().Serialize(std::cout, families(*answer));
  });
}

}  // namespace stp::tools
