// `stp bench --agent`: two programs of one agent, beside the kernel's own sockets.
#pragma once

#include <string>
#include <vector>

#include "tools/bench_report.h"
#include "stp/error.h"

namespace stp::tools {

// `agent` is the agent's socket, `stg` the storage that it serves ("" = whichever).
Result<std::vector<BenchRow>> run_agent_bench(const std::string& agent, const std::string& stg, unsigned rounds, unsigned round_ms);

}  // namespace stp::tools
