#include "tools/agent_metrics.h"

#include <algorithm>

namespace stp::tools {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

std::vector<MetricFamily> agent_metrics(const host::AgentStats& stats, const std::string& stg, const std::string& host) {
  std::vector<MetricFamily> out;
  const auto add = [&](const char* name, const char* help, MetricType type, std::uint64_t value) {
    ClientMetric metric;
    metric.label = {{.name = "stg", .value = stg}, {.name = "host", .value = host}};
    (type == MetricType::Gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(value);
    out.push_back({.name = name, .help = help, .type = type, .metric = {metric}});
  };
  const auto gauge = [&](const char* name, const char* help, std::uint64_t value) { add(name, help, MetricType::Gauge, value); };
  const auto count = [&](const char* name, const char* help, std::uint64_t value) { add(name, help, MetricType::Counter, value); };
  const stp::host::AgentCounters& a = stats.agent;
  const EngineCounters& e = stats.engine;
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
  count("stp_extents_lent_total", "Extents written from where programs put their bytes, without a copy", e.extents_lent);
  count("stp_extents_landed_total", "Extents read to where programs take their bytes, without a copy", e.extents_landed);
  count("stp_extents_renewed_total", "Extents written again, because the other host asked for it", e.extents_renewed);
  gauge("stp_extents_held", "Extents of the cache region with data that the other host has not taken yet", e.extents_held);
  gauge("stp_send_memory_bytes", "Memory with bytes that the other hosts have not confirmed yet", e.send_memory_bytes);
  gauge("stp_receive_memory_bytes", "Memory that open conversations may receive into", e.receive_memory_bytes);
  count("stp_damaged_packets_total", "Packets that did not check", e.damaged_packets);
  count("stp_damaged_gates_total", "Gates that did not check", e.damaged_gates);
  count("stp_damaged_extents_total", "Extents that did not check", e.damaged_extents);
  count("stp_protocol_faults_total", "Messages that broke the protocol", e.protocol_faults);
  count("stp_unknown_messages_total", "Messages of unknown types, passed over", e.unknown_messages);
  count("stp_resets_sent_total", "Conversations reset by this host", e.resets_sent);
  count("stp_resets_taken_total", "Conversations reset by other hosts", e.resets_taken);
  return out;
}

void merge_metrics(std::vector<MetricFamily>& all, std::vector<MetricFamily> more) {
  for (MetricFamily& family : more) {
    const auto same = std::ranges::find(all, family.name, &MetricFamily::name);
    if (same == all.end())
      all.push_back(std::move(family));
    else
      same->metric.insert(same->metric.end(), family.metric.begin(), family.metric.end());
  }
}

}  // namespace stp::tools
