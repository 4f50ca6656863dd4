// How an unmodified program's socket comes to listen on STP: as a Unix socket that listens under a name which says its port,
// with the agent told; or on TCP and STP alike, as the TCP socket that it is, with the port held (preload_hold.h). Any thread.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>

#include "hostlib/run_address.h"
#include "hostlib/run_rules.h"

namespace stp::run {

// Where a socket bound there listens.
Way way_of(NetAddress address);
// Makes `fd` an STP socket bound to that address of this host, or 0.0.0.0; with port 0 to a free one. 0, or an errno.
int bind_stp(int fd, NetAddress where);
// -1 with errno, as listen(2). `name` is the socket's.
int listen_stp(int fd, const SocketName& name, int backlog);
// The same of a socket that is none of STP's yet, with that address.
int listen_first(int fd, NetAddress where, int backlog);

// On TCP and STP alike: as bind(2), where `where` is that address, and listen(2).
int bind_both(int fd, NetAddress where, const sockaddr* address, socklen_t length);
int listen_both(int fd, NetAddress where, int backlog);
// Where a TCP socket that listens is bound, if it is to listen on both; and does so.
std::optional<NetAddress> listens_on_both(int fd);
void hold_listener(int fd, NetAddress where);

}  // namespace stp::run
