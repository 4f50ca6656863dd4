#include "tools/metrics_server.h"

#include <fmt/format.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <cerrno>
#include <exception>

#include "tools/agent_metrics.h"

namespace stp {
namespace {

constexpr std::size_t kThreads = 2;

class Agents final : public prometheus::Collectable {
 public:
  explicit Agents(const std::vector<std::unique_ptr<host::Agent>>& agents) : agents_(agents) {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<prometheus::MetricFamily> all;
    for (const auto& agent : agents_) tools::merge_metrics(all, tools::agent_metrics(agent->stats(), agent->stg(), agent->name()));
    return all;
  }

 private:
  const std::vector<std::unique_ptr<host::Agent>>& agents_;
};

}  // namespace

struct MetricsServer::Parts {
  std::shared_ptr<prometheus::Collectable> agents;
  std::unique_ptr<prometheus::Exposer> exposer;
};

MetricsServer::MetricsServer() : parts_(std::make_unique<Parts>()) {}
MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& address, const std::vector<std::unique_ptr<host::Agent>>& agents) {
  std::unique_ptr<MetricsServer> server(new MetricsServer);
  server->parts_->agents = std::make_shared<Agents>(agents);
  try {
    server->parts_->exposer = std::make_unique<prometheus::Exposer>(address, kThreads);
    server->parts_->exposer->RegisterCollectable(server->parts_->agents);
  } catch (const std::exception& error) {
    return fail(EADDRNOTAVAIL, fmt::format("can not serve metrics on \"{}\": {}; wanted is an address as 127.0.0.1:9717 that is free", address, error.what()));
  }
  return server;
}

}  // namespace stp
