// `stp stats`: what an agent counts, as Prometheus text.

#include <prometheus/text_serializer.h>

#include <iostream>
#include <memory>

#include "hostlib/agent_client.h"
#include "tools/agent_metrics.h"
#include "tools/commands.h"

namespace stp::tools {
namespace {

int run(const CLI::App& command, const std::string& agent, const std::string& stg) {
  auto client = host::AgentClient::connect(agent, stg);
  if (!client) return complain(command, client.error());
  const auto stats = client->stats();
  if (!stats) return complain(command, stats.error());
  prometheus::TextSerializer().Serialize(std::cout, agent_metrics(*stats, client->stg(), client->host()));
  return kOk;
}

}  // namespace

void add_stats_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("stats", "Print what the agent of this host counts, as Prometheus text (version 0.0.4)");
  auto agent = std::make_shared<std::string>(host::kDefaultAgentPath);
  add_stg_option(*command, context);
  command->add_option("--agent", *agent, "Unix socket of the agent")->envname("STP_AGENT")->capture_default_str()->type_name("PATH");
  command->footer("Where the agent serves several storage systems, --stg says which one; else the first. The agent gives the same over HTTP where its\n"
                  "configuration says so.\nExit status: 0 printed, 1 failed, 2 wrong use.");
  command->callback([command, agent, &context] { context.status = run(*command, *agent, context.stg); });
}

}  // namespace stp::tools
