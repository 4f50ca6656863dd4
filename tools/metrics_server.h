// The agents' statistics over HTTP, for Prometheus to fetch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent.h"
#include "stp/error.h"

namespace stp {

class MetricsServer {
 public:
  // `address`: "HOST:PORT" (numeric) or "PORT". Serves /metrics from threads of its own. The agents must outlive it.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& address, const std::vector<std::unique_ptr<host::Agent>>& agents);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

 private:
  MetricsServer();
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace stp
