// The agent's side of `stp run`: answers the preloaded library (hostlib/run_protocol.h), connects to other hosts for it, listens on STP for
// unmodified programs (run_listeners.h), and carries their conversations with other hosts on (run_conversations.h). Programs of one host
// talk past it.
//
// Has a thread of its own and makes STP calls as any program, so it is a program of its own agent. Serves one storage system; a daemon has one for each.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "hostlib/agent.h"
#include "hostlib/agent_door.h"
#include "hostlib/event_loop.h"
#include "hostlib/run_protocol.h"
#include "hostlib/unique_fd.h"
#include "tools/run_aborts.h"
#include "tools/run_conversations.h"
#include "tools/run_hosts.h"
#include "tools/run_listeners.h"

namespace stp {

class RunServer {
 public:
  struct Settings {
    std::string agent_path;  // of the door that `agent` is served on
    std::string host;
    unsigned number = 0;    // of the storage system among the daemon's `storages`: the first one has the names HOST.stp
    unsigned storages = 1;
    unsigned most_of_a_user = 16384;  // conversations that one user's programs begin
    run::Network network;
    bool over_disk = false;  // as the agent's setting of two of its programs
    std::function<void(std::string_view)> log;
  };
  // `agent` must be there until this is gone.
  static Result<std::unique_ptr<RunServer>> start(host::Agent& agent, const Settings& settings, const host::AgentAccess& access);
  // Resets the conversations that are open.
  ~RunServer();
  RunServer(const RunServer&) = delete;
  RunServer& operator=(const RunServer&) = delete;

  void set_access(const host::AgentAccess& access);  // any thread

 private:
  struct Connecting;
  RunServer(host::Agent& agent, const Settings& settings, const host::AgentAccess& access, std::unique_ptr<EventLoop> loop);
  Result<void> open();
  void close_all();

  // Requests
  void let_in();
  bool may_use(int fd, uid_t& user);
  void serve(int fd, uid_t user, bool welcome);
  int answer(const run::RunCall& call, uid_t user, UniqueFd& given, run::RunAnswer& answer);

  // Connecting
  int connect(const run::RunCall& call, uid_t user, UniqueFd& program);
  void look_at(const std::shared_ptr<Connecting>& connecting);
  void give_up_after(std::uint32_t ms, const std::shared_ptr<Connecting>& connecting);
  void connected(Connecting& connecting);
  static void failed(Connecting& connecting, int code);

  host::Agent& agent_;
  const Settings settings_;
  const RunHosts hosts_;
  std::mutex mutex_;
  host::AgentAccess access_;
  const std::unique_ptr<EventLoop> loop_;
  RunConversations conversations_;
  RunListeners listeners_;
  RunAborts aborts_;
  UniqueFd door_;
  std::map<uid_t, unsigned> guests_of_user_;
  unsigned timed_ = 0;
  std::thread thread_;
};

}  // namespace stp
