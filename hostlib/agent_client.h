// Asks an agent what it knows, for the programs that show it. One thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent_link.h"
#include "hostlib/agent_stats.h"
#include "stp/error.h"
#include "stp/membership_board.h"

namespace stp::host {

class AgentClient {
 public:
  // `stg`: path or name of a storage system where the agent serves several; empty: the first.
  static Result<AgentClient> connect(const std::string& agent, const std::string& stg, unsigned patience_ms = AgentLink::kPatienceMs);

  Result<AgentStats> stats();
  Result<std::vector<AgentSocketRow>> sockets();  // by their numbers, oldest first
  Result<MembershipBoard::View> hosts();
  // Whole blocks of what describes the storage (Geometry::describes), any number.
  Result<void> read(std::uint64_t block, Bytes into);
  const std::string& host() const { return link_->own_name(); }
  const std::string& stg() const { return superblock().stg; }
  const Superblock& superblock() const { return link_->superblock(); }
  // The agent is gone: a new one has to be connected to. Looks whether it has hung up meanwhile.
  bool dead();

 private:
  AgentClient(std::string agent, std::shared_ptr<AgentLink> link) : agent_(std::move(agent)), link_(std::move(link)) {}
  Result<AgentLink::Reply> ask(const AgentCall& call);
  std::string agent_;
  std::shared_ptr<AgentLink> link_;
};

}  // namespace stp::host
