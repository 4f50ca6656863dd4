// How an unmodified program's socket comes to listen on STP: as a Unix socket that listens under a name which says its port,
// with the agent told. Any thread.
#pragma once

#include <cstdint>

#include "hostlib/run_address.h"
#include "hostlib/run_rules.h"

namespace stp::run {

// Where a socket bound there listens.
Way way_of(NetAddress address);
// Makes `fd` an STP socket bound to the port, 0 for a free one. 0, or an errno.
int bind_stp(int fd, std::uint16_t port);
// -1 with errno, as listen(2). `name` is the socket's.
int listen_stp(int fd, const SocketName& name, int backlog);

}  // namespace stp::run
