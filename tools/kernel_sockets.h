// What the kernel says of sockets that are other programs': whose they are and which (sock_diag(7)). Nobody can have it say something else.
//
// The user is the one who made the socket (its creator's fsuid), as SO_REUSEPORT of the kernel has it. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hostlib/run_address.h"

namespace stp {

struct UnixSocketFacts {
  std::string name;  // without the NUL byte that begins it
  std::uint64_t inode = 0;
  bool listens = false;
  std::optional<uid_t> user;  // unknown below Linux 5.3, and where there is no unix_diag
};

// The stream sockets that have an abstract name which begins so, and are not connected. False: not all of them. The kernel's list is read in pieces and
// changes meanwhile: what was there all along may rarely be missing.
bool list_unix_sockets(std::string_view beginning, std::vector<UnixSocketFacts>& sockets);

struct TcpSocketFacts {
  bool listens = false;
  bool connected = false;      // also where one side has ended; false while the handshake goes on
  std::uint64_t inode = 0;     // 0: nobody accepted it yet
  uid_t user = 0;              // of one that listens
  std::uint64_t cookie = 0;    // SO_COOKIE: no other socket had or will have it
  std::uint32_t device = 0;    // SO_BINDTODEVICE; 0: all
};

// The IPv4 (or IPv4-mapped) TCP socket of this network namespace that a segment from `remote` to `local` reaches: the connected one, else who listens.
std::optional<TcpSocketFacts> find_tcp_socket(run::NetAddress local, run::NetAddress remote);

}  // namespace stp
