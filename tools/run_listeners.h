// Listens on STP for unmodified programs, and brings what comes to the Unix sockets that they listen on, by their names, or to their TCP sockets
// (run_tcp.h). Which there are is looked up in the kernel's list of Unix sockets (run_ports.h), once a second, when the agent starts and
// when a program ends that listened; a program tells of a new one itself.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "hostlib/event_loop.h"
#include "hostlib/run_protocol.h"
#include "hostlib/stp_socket.h"
#include "tools/run_conversations.h"
#include "tools/run_hosts.h"
#include "tools/run_ports.h"
#include "tools/run_shares.h"
#include "tools/run_tcp.h"

namespace stp {

class RunListeners {
 public:
  RunListeners(EventLoop& loop, const RunHosts& hosts, RunConversations& conversations)
      : loop_(loop), hosts_(hosts), conversations_(conversations), tcp_(loop, conversations), shares_(hosts) {}
  ~RunListeners();
  RunListeners(const RunListeners&) = delete;
  RunListeners& operator=(const RunListeners&) = delete;

  // kListen: 0 or an errno.
  int listen(const run::RunCall& call, uid_t user);
  // kShare, kUnshare: 0 or an errno.
  int share(const run::RunCall& call, uid_t user, UniqueFd& name);
  int unshare(const run::RunCall& call) { return shares_.give_up(call.port); }
  // kBehind.
  std::optional<run::NetAddress> peer_behind(std::uint16_t source_port, std::uint64_t cookie) { return tcp_.peer_behind(source_port, cookie); }
  // The program that told of the listener there: when it ends, the port is given up at once, not seconds later.
  void watch(pid_t program, uid_t user, std::uint16_t port);
  // A program of this host found nobody under the port's names: it is looked whether that is so, not too often.
  void found_nobody(std::uint16_t port);
  void give_up_if_gone(std::uint16_t port);
  // Takes up what programs listen on already, gives up what they do not any more.
  void look();
  void close_all();

 private:
  // The sockets that have a port's names, by their inodes. IPv4's and IPv6's (true) may listen side by side.
  using Names = std::map<bool, std::uint64_t>;
  struct Listener;
  struct Arriving;

  int listen_alone(const run::RunCall& call, uid_t user);
  int listen_held(const run::RunCall& call);
  int open(std::uint16_t port, int backlog, std::shared_ptr<Listener>& opened);
  void close(std::uint16_t port);
  void look_again_later();
  void look_at(Listener& listener, const RunPort& port);
  void look_at(Listener& listener);
  void adopt(std::uint16_t port, const RunPort& there);
  void accept(const std::shared_ptr<Listener>& listener);
  void deliver(const std::shared_ptr<Arriving>& arriving);
  enum class Delivery { kDone, kFull, kNobody, kOthers };
  Delivery try_to_deliver(const std::shared_ptr<Arriving>& arriving);
  Delivery deliver_by_turns(const std::shared_ptr<Arriving>& arriving);
  void deliver_to_tcp(const std::shared_ptr<Arriving>& arriving, const run::SocketName& entrance);
  Delivery connect_to(const std::shared_ptr<Arriving>& arriving, const run::SocketName& there);
  static bool is_rightful(Listener& listener, int connected);
  bool is_holders(const Listener& listener, const run::SocketName& there) const;

  EventLoop& loop_;
  const RunHosts& hosts_;
  RunConversations& conversations_;
  RunTcp tcp_;
  RunShares shares_;
  std::map<std::uint16_t, std::shared_ptr<Listener>> listeners_;
  struct Program {
    UniqueFd process;  // pidfd_open(2)
    uid_t user = 0;
    std::set<std::uint16_t> ports;
  };
  std::map<pid_t, Program> programs_;
  bool looks_later_ = false;
};

}  // namespace stp
