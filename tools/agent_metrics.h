// What an agent counts, as Prometheus metrics.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "hostlib/agent_stats.h"

namespace stp::tools {

std::vector<prometheus::MetricFamily> agent_metrics(const host::AgentStats& stats, const std::string& stg, const std::string& host);
// The same metrics of several agents, as one family each.
void merge_metrics(std::vector<prometheus::MetricFamily>& all, std::vector<prometheus::MetricFamily> more);

}  // namespace stp::tools
