// The names of ports that processes of one user share (SO_REUSEPORT) without one having them from the other.
//
// The agent makes both names (L, hostlib/run_address.h) as that user, so the kernel says that they are the user's, and gives copies to whoever of that user asks.
// Each process has its copies before it has a socket at the port: no moment in which another user finds a name free comes when one of the
// processes ends, nor when the agent does. Its own copies the agent lets go when nobody has a socket at the port any more. An agent that is started
// again has none: until the port is free no further process gets any.
//
// Nothing is taken from programs: closing what they made could take as long as they like.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>

#include "hostlib/event_loop.h"
#include "hostlib/unique_fd.h"
#include "tools/run_hosts.h"
#include "tools/run_ports.h"

namespace stp {

class RunShares {
 public:
  explicit RunShares(const RunHosts& hosts) : hosts_(hosts) {}
  RunShares(const RunShares&) = delete;
  RunShares& operator=(const RunShares&) = delete;

  // A copy of the port's name of that family. 0, or an errno: EADDRINUSE it is another user's, or somebody's who did not ask here; EACCES;
  // EPERM this process may not make a socket of that user's; ENOBUFS.
  int give(std::uint16_t port, bool v6, uid_t user, UniqueFd& copy);
  // Lets go of what nobody uses any more. `ports`: the kernel's list, from one look.
  void look(const std::map<std::uint16_t, RunPort>& ports);
  // The same at once for one port, if that can be said after so short a time. False: it is in use.
  bool give_up(std::uint16_t port);
  bool empty() const { return shares_.empty(); }
  void close_all() { shares_.clear(); }

 private:
  struct Share {
    std::array<UniqueFd, 2> names;
    uid_t user = 0;
    EventLoop::Clock::time_point given;
    bool seen = false;    // that somebody has a socket there, since it was given
    bool missed = false;  // at the last look nobody had
  };
  int make(std::uint16_t port, uid_t user);
  bool in_use(const Share& share, const RunPort& port) const;

  const RunHosts& hosts_;
  std::map<std::uint16_t, Share> shares_;
};

}  // namespace stp
