// How an unmodified program's socket comes to be connected to an STP port: straight to a program of this host, else by the agent.
//
// Any thread.
#pragma once

#include <sys/socket.h>

#include "hostlib/run_address.h"

namespace stp::run {

// `peer` is an address of the network. 0, or an errno as connect(2).
int connect_stp(int fd, NetAddress peer);
// Before a connect to an address that is none of STP's. A socket that is bound to a port of STP becomes a TCP socket with that port, one whose connect
// failed a new one. 0, also where there is nothing to do, or an errno as connect(2).
int leave_stp(int fd, const sockaddr* address, socklen_t length);
// How a connect ended that began before: 0, the errno, or EALREADY while it goes on.
int outcome(int fd);
// The program was told so: 0, or the errno.
void told_outcome(int fd, int code);

}  // namespace stp::run
