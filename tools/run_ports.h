// Which STP ports the unmodified programs of this host have, as the names of their sockets say (hostlib/run_address.h), and whose they are, as the kernel
// says.
//
// Any user may give a socket any name that is free. So a name is believed as follows:
// - L, listening: a program's whole port, or one address family of it. Whose it is run_listeners.h decides.
// - L of both families, of one user, neither listening: that user holds the port. Nobody else can have it then: each name is there once, and the
//   one who holds it fails to bind (EADDRINUSE) rather than hold one of the two.
// - S and B: only of the user who holds the port, so another user who takes such a name has nothing.
// - B: only together with a TCP socket of that very inode that listens there and is that user's, too. So nobody has another user's TCP server
//   reached over STP, nor does what somebody else listens on after it reach what was meant for it.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "hostlib/run_address.h"
#include "tools/run_hosts.h"

namespace stp {

struct RunPort {
  struct Name {
    std::uint64_t inode = 0;
    bool listens = false;
    std::optional<uid_t> user;
  };
  struct Entrance {
    run::SocketName name;
    uid_t user = 0;
  };
  std::array<std::optional<Name>, 2> names;  // L, of IPv4 and of IPv6
  std::vector<Entrance> shared, over_tcp;    // S that listen, and B; of any user
  std::set<uid_t> sharers;                   // who has S, listening or not, or B

  // Who holds the port, if somebody does.
  std::optional<uid_t> holder() const;
  // Those of that user that are to be believed.
  std::vector<run::SocketName> entrances_of(uid_t user) const;
};

// At the kernel's list, which is read in pieces and changes meanwhile, before something is taken for gone.
inline constexpr int kRunPortLooks = 2;
// False: not all of them (kernel_sockets.h).
bool read_run_ports(const RunHosts& hosts, std::map<std::uint16_t, RunPort>& ports);

// Where the TCP socket that B speaks of is reached over the loopback interface.
run::NetAddress tcp_address_of(const run::SocketName& over_tcp);
// Whether it listens there now, and is that user's.
bool listens_on_tcp(const run::SocketName& over_tcp, uid_t user);

}  // namespace stp
