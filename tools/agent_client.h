// Asks an agent what it knows, for the tools that show it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent_link.h"
#include "hostlib/agent_stats.h"
#include "stp/error.h"

namespace stp::tools {

class AgentClient {
 public:
  // `stg`: path or name of a storage system where the agent serves several; empty: the first.
  static Result<AgentClient> connect(const std::string& agent, const std::string& stg);

  Result<host::AgentStats> stats();
  Result<std::vector<host::AgentSocketRow>> sockets();  // by their numbers, oldest first
  const std::string& host() const { return link_->own_name(); }
  const std::string& stg() const { return link_->superblock().stg; }

 private:
  AgentClient(std::string agent, std::shared_ptr<host::AgentLink> link) : agent_(std::move(agent)), link_(std::move(link)) {}
  Result<host::AgentLink::Reply> ask(const host::AgentCall& call);
  std::string agent_;
  std::shared_ptr<host::AgentLink> link_;
};

}  // namespace stp::tools
