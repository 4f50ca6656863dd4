// Brings conversations that came over STP to programs that listen on TCP as well ("both" of the rules), and says who is behind such a TCP connection.
//
// The program's descriptor is its TCP socket, which the kernel alone serves: TCP clients reach it as ever. For a conversation that came over
// STP the agent makes a TCP connection of its own to it over the loopback interface, from kTcpSource, and relays.
//
// What another user of this machine might try, and what is against it:
// - to listen on the TCP port instead of the program (which ended, or is about to begin): the socket that is known to be the program's, by its inode, listens
//   before the connection is made, and still once it is there. As long as it does, nobody else can be bound there (only sockets of the same user,
//   by SO_REUSEPORT); so the connection is that program's. Until this is known not one byte is handed on, and otherwise none ever is. The rest is in
//   run_ports.h: whose the STP port is, and which TCP socket may speak for it.
// - to connect from kTcpSource, where anybody may, or to take the source port of a connection that has ended, so as to pass for another host: what
//   the agent answers goes by the cookie that the kernel gave to the program's end of its own connection. No other socket ever has it,
//   and the kernel tells it for the two addresses of a connection that the agent holds at that moment.
// - to have a conversation of another host pass for one of this machine, which programs may trust more: whatever comes from kTcpSource
//   and the agent does not know (any more), the library names as this STP host's own, never as a loopback address.
// - to hold the agent up: only what it brings waits (with a bound of time and of number for each port), the agent does not.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "hostlib/event_loop.h"
#include "hostlib/run_address.h"
#include "hostlib/stp_socket.h"
#include "hostlib/unique_fd.h"
#include "tools/run_conversations.h"

namespace stp {

class RunTcp {
 public:
  RunTcp(EventLoop& loop, RunConversations& conversations) : loop_(loop), conversations_(conversations) {}
  ~RunTcp();
  RunTcp(const RunTcp&) = delete;
  RunTcp& operator=(const RunTcp&) = delete;

  // To the socket that `entrance` (B) speaks of. `name` is the other host and where it came to (R). Calls `done` once, perhaps at once; what could not be
  // brought is reset.
  using Done = std::function<void()>;
  void bring(const run::SocketName& entrance, uid_t user, StpSocket socket, const run::SocketName& name, Done done);
  // kBehind.
  std::optional<run::NetAddress> peer_behind(std::uint16_t source_port, std::uint64_t cookie);
  void close_all();

 private:
  struct Bringing;
  void connected(const std::shared_ptr<Bringing>& one);
  bool learn_cookie(Bringing& one);
  void over(const std::shared_ptr<Bringing>& one);
  void forget_later(std::uint64_t cookie);

  EventLoop& loop_;
  RunConversations& conversations_;
  std::map<std::uint16_t, std::shared_ptr<Bringing>> bringing_;  // by the port at kTcpSource
  std::map<std::uint64_t, run::NetAddress> behind_;              // by cookie
};

}  // namespace stp
