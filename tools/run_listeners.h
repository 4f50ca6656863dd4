// Listens on STP for unmodified programs, and brings what comes to them: to the Unix socket that a program listens on, by its name, or
// ("both" of the rules) to its TCP port, over the loopback interface. What the programs have is looked up in the kernel's list of
// Unix sockets once a second, and when the agent starts; a program tells of a new one itself.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "hostlib/run_protocol.h"
#include "tools/event_loop.h"
#include "tools/run_conversations.h"
#include "tools/run_hosts.h"
#include "tools/stp_socket.h"

namespace stp {

class RunListeners {
 public:
  RunListeners(EventLoop& loop, const RunHosts& hosts, RunConversations& conversations) : loop_(loop), hosts_(hosts), conversations_(conversations) {}
  ~RunListeners();
  RunListeners(const RunListeners&) = delete;
  RunListeners& operator=(const RunListeners&) = delete;

  // kListen: 0 or an errno.
  int listen(const run::RunCall& call, uid_t user);
  // Who is behind a TCP connection that came from kTcpSource and that port.
  std::optional<run::NetAddress> peer_behind(std::uint16_t source_port) const;
  // Takes up what programs listen on already, gives up what they do not any more.
  void look();
  void close_all();

 private:
  // One of the sockets that listen on a port: of each address family one that has it for itself (0), or several that share it.
  struct Entrance {
    bool v6 = false;
    std::uint16_t share = 0;
    auto operator<=>(const Entrance&) const = default;
  };
  // What the kernel's list shows of a port.
  struct Found {
    std::set<Entrance> entrances;
    std::optional<std::uint32_t> tcp;
  };
  struct Listener;
  struct Arriving;

  int open(std::uint16_t port, int backlog, std::shared_ptr<Listener>& opened);
  void close(std::uint16_t port);
  void look_again_later();
  static std::map<std::uint16_t, Found> read_names(const RunHosts& hosts, bool& complete);
  void accept(const std::shared_ptr<Listener>& listener);
  void deliver(const std::shared_ptr<Arriving>& arriving);
  enum class Delivery { kDone, kFull, kNobody };
  Delivery deliver_to_unix(const std::shared_ptr<Arriving>& arriving);
  Delivery deliver_to_tcp(const std::shared_ptr<Arriving>& arriving);
  void on_tcp_connected(const std::shared_ptr<Arriving>& arriving, const std::shared_ptr<UniqueFd>& fd, std::uint16_t source_port);
  void forget_later(std::uint16_t source_port);
  static bool is_rightful(Listener& listener, int connected);

  EventLoop& loop_;
  const RunHosts& hosts_;
  RunConversations& conversations_;
  std::map<std::uint16_t, std::shared_ptr<Listener>> listeners_;
  struct Behind {
    run::NetAddress peer;
    std::uint64_t generation = 0;
  };
  std::map<std::uint16_t, Behind> behind_tcp_;  // by source port
  std::uint64_t generation_ = 0;
  bool looks_later_ = false;
};

}  // namespace stp
