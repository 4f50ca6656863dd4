// This process's host, served by an agent: a connection, the sockets on it, and one thread that hears news.
//
// When the agent goes away all sockets end with ECONNRESET at once. The news thread looks for a new agent; listeners are
// registered with it again, and sockets made from then on are its.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "hostlib/agent_link.h"
#include "hostlib/agent_sockets.h"
#include "hostlib/agent_waiting.h"
#include "hostlib/host.h"

namespace stp::host {

class AgentHost final : public Host {
 public:
  static Result<std::unique_ptr<AgentHost>> connect(const AgentLink::Wanted& wanted, std::mutex& mutex, EngineEvents& events);
  ~AgentHost() override;

  Result<void> wait_until_member(std::unique_lock<std::mutex>&, const std::function<void(std::string_view)>&) override { return {}; }
  void leave(std::unique_lock<std::mutex>& lock, Nanos linger) override;
  void before_fork() override;
  void after_fork_in_parent() override;
  void abandon_after_fork() override;
  Resumed resume_after_fork() override;
  SocketResult<ClientId> client_id() override;
  SocketResult<void> give(SocketId socket, int descriptor, const ClientId& taker) override { return sockets_.give(socket, descriptor, taker); }
  SocketResult<SocketId> take(const ClientId& giver, int descriptor) override { return sockets_.take(giver, descriptor); }
  SocketCalls& sockets() override { return sockets_; }
  Waiting& waiting() override { return waiting_; }
  void forget(SocketId socket) override { sockets_.forget(socket); }
  MembershipBoard::View view() override;
  const Superblock& superblock() const override { return superblock_; }
  std::string own_name() override { return link_->own_name(); }
  const std::string& base_name() const override { return base_name_; }
  void look_at_leases_now() override;
  EngineCounters counters() override { return {}; }

 private:
  AgentHost(AgentLink::Wanted wanted, std::shared_ptr<AgentLink> link, std::mutex& mutex, EngineEvents& events);
  bool start_news_thread();
  void news_loop();
  void take_news(AgentLink& link);
  void come_back(std::unique_lock<std::mutex>& lock);

  const AgentLink::Wanted wanted_;
  std::mutex& mutex_;
  EngineEvents& events_;
  std::shared_ptr<AgentLink> link_;
  std::shared_ptr<AgentLink> heir_;  // from before a fork until the child takes it up; the parent drops it
  const Superblock superblock_;
  std::string base_name_;
  AgentSockets sockets_;
  AgentWaiting waiting_;
  int stop_bell_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread news_;
};

}  // namespace stp::host
