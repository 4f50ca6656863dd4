// `stp bench --through-agents`: two programs, each served by an agent of its own, over one storage.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "stp/error.h"
#include "tools/bench_report.h"

namespace stp::tools {

struct TwoAgentsOptions {
  std::string stg;
  unsigned rounds = 7;
  unsigned round_ms = 400;
  unsigned idle_ms = 2000;
  unsigned idle_sockets = 10'000;
  unsigned senders = 1000;
  // The raw rivals of the storage, where there are any: bytes a second / 1e6, and p50 and p99 of a round trip in microseconds.
  std::function<Result<std::optional<double>>()> raw_stream;
  std::function<Result<std::optional<std::pair<double, double>>>()> raw_roundtrip;
};

Result<std::vector<BenchRow>> run_two_agents_bench(const TwoAgentsOptions& options);

}  // namespace stp::tools
