// How an unmodified program's socket comes to be connected to an STP port: straight to a program of this host, else by the agent.
//
// Any thread.
#pragma once

#include "hostlib/run_address.h"

namespace stp::run {

// `peer` is an address of the network. 0, or an errno as connect(2).
int connect_stp(int fd, NetAddress peer);
// How a connect ended that began before: 0, the errno, or EALREADY while it goes on.
int outcome(int fd);

}  // namespace stp::run
