// The agent's side of `stp run`: answers the preloaded library (hostlib/run_protocol.h), listens on STP for unmodified programs, and carries
// their conversations with other hosts on between a Unix socket and an STP socket (relay.h). Programs of one host talk past it.
//
// Has a thread of its own and makes STP calls as any program, so it is a program of its own agent. Serves one storage system.
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
#include "hostlib/run_protocol.h"
#include "tools/event_loop.h"
#include "tools/relay.h"
#include "tools/unique_fd.h"

namespace stp {

class RunServer {
 public:
  struct Settings {
    std::string agent_path;  // of the door that `agent` is served on
    std::string host;
    unsigned most_of_a_user = 16384;  // conversations that one user's programs begin
    run::Network network;
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
  struct Listener;
  struct Connecting;
  struct Arriving;
  RunServer(host::Agent& agent, const Settings& settings, const host::AgentAccess& access);
  Result<void> open();
  void close_all();

  // Requests
  void let_in();
  bool may_use(int fd, uid_t& user);
  void serve(int fd, uid_t user, bool welcome);
  int answer(const run::RunCall& call, uid_t user, UniqueFd& program, run::RunAnswer& answer);
  int resolve(std::string_view name, run::RunAnswer& answer);
  std::string name_of(std::uint32_t ip) const;
  std::uint32_t address_of(std::string_view host) const;
  std::uint32_t own_address() const;
  std::uint64_t storage() const;

  // Listening
  int listen(const run::RunCall& call, uid_t user);
  void accept(const std::shared_ptr<Listener>& listener);
  void deliver(const std::shared_ptr<Arriving>& arriving);
  int open_listener(std::uint16_t port, int backlog, bool v6, std::optional<uid_t> user);
  static bool is_rightful(Listener& listener, int connected);
  void look_again_later();
  void look_for_listeners();
  void close_listener(std::uint16_t port);

  // Connecting
  int connect(const run::RunCall& call, uid_t user, UniqueFd& program);
  void look_at(const std::shared_ptr<Connecting>& connecting);
  void connected(Connecting& connecting);
  static void failed(Connecting& connecting, int code);
  void carry_on(UniqueFd kernel, KernelSide side, int stp_socket, std::vector<std::byte> head, uid_t user);

  host::Agent& agent_;
  const Settings settings_;
  std::mutex mutex_;
  host::AgentAccess access_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd door_;
  std::map<std::uint16_t, std::shared_ptr<Listener>> listeners_;
  std::map<std::uint64_t, std::weak_ptr<Relay>> relays_;
  std::uint64_t next_relay_ = 1;
  bool looks_for_dead_ = false;
  std::map<uid_t, unsigned> guests_of_user_, conversations_of_user_;
  std::thread thread_;
};

}  // namespace stp
