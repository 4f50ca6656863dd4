// The names of ports that processes of one user share (SO_REUSEPORT) without one having them from the other.
//
// The agent makes both names (L, hostlib/run_address.h) as that user, so the kernel says that they are the user's, and gives copies to whoever of that user asks.
// Each process has its copies before it has a socket at the port: no moment in which another user finds a name free comes when one of the
// processes ends, nor when the agent does. Its own copies the agent lets go when nobody has a socket at the port any more. An agent that is started
// again has none: until the port is free no further process gets any.
//
// A program may do with its copy what it likes, listen on it, too, and have others send descriptors there. So whoever closes the last copy may have to wait for
// as long as some user wants (a TCP socket that lingers): the agent closes in a thread of that user's, and has one at a time.
//
// A program has its socket at the port (S or B) before it asks, so whether a port is used can be seen at any moment.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "hostlib/unique_fd.h"
#include "tools/run_hosts.h"
#include "tools/run_ports.h"

namespace stp {

class RunShares {
 public:
  explicit RunShares(const RunHosts& hosts);
  ~RunShares() { close_all(); }
  RunShares(const RunShares&) = delete;
  RunShares& operator=(const RunShares&) = delete;

  // A copy of the port's name of that family. 0, or an errno: EADDRINUSE it is another user's, or somebody's who did not ask here; EACCES;
  // EPERM this process may not make a socket of that user's, or waits for the end of one; ENOBUFS.
  int give(std::uint16_t port, bool v6, uid_t user, UniqueFd& copy);
  // Lets go of what nobody uses any more. `ports`: the kernel's list, from one look.
  void look(const std::map<std::uint16_t, RunPort>& ports);
  // The same at once for one port. 0, EADDRINUSE: it is in use, or EAGAIN: it takes a moment.
  int give_up(std::uint16_t port);
  bool empty() const { return shares_.empty(); }
  void close_all();

 private:
  struct Share {
    std::array<UniqueFd, 2> names;
    uid_t user = 0;
    bool missed = false;  // at the last look nobody had a socket there
  };
  struct Ends;
  int make(std::uint16_t port, uid_t user);
  bool close(std::uint16_t port);

  const RunHosts& hosts_;
  std::map<std::uint16_t, Share> shares_;
  const std::shared_ptr<Ends> ends_;
};

}  // namespace stp
