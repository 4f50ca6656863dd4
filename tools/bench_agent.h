// An agent for `stp bench`: stpd in a process of its own, and what it costs.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "hostlib/agent_client.h"
#include "stp/error.h"

namespace stp::tools {

class BenchAgent {
 public:
  // Starts the stpd that lies beside this program, and waits until it serves.
  static Result<std::unique_ptr<BenchAgent>> start(const std::string& stg, const std::string& host);
  ~BenchAgent();  // leaves the group
  BenchAgent(const BenchAgent&) = delete;
  BenchAgent& operator=(const BenchAgent&) = delete;

  const std::string& path() const { return path_; }
  pid_t pid() const { return pid_; }
  Result<host::AgentStats> stats() { return client_->stats(); }

 private:
  BenchAgent() = default;
  std::string folder_, path_;
  pid_t pid_ = -1;
  std::unique_ptr<host::AgentClient> client_;
};

double cpu_seconds_of(pid_t pid);   // 0 when it is gone
double memory_bytes_of(pid_t pid);  // its share of what it has in memory (Pss)

}  // namespace stp::tools
