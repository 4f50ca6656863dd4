// Conversations that an unmodified program accepts, and who is at the other end of one.
//
// Any thread.
#pragma once

#include <sys/socket.h>

#include <optional>

#include "hostlib/run_address.h"

namespace stp::run {

// As accept4(2), of any descriptor.
int accept_any(int listener, sockaddr* address, socklen_t* length, int flags);
// Of a socket that was accepted.
std::optional<NetAddress> accepted_from(int fd);
// The name that a conversation has, which is the socket's at one of its ends (C or R). Nothing: it is none.
std::optional<SocketName> conversation_of(int fd);
// Whether this end of one is the one that accepted.
bool accepted(int fd);
// Whether who is at the other end of a Unix socket runs as the agent, or as root.
bool is_of_agent(int fd);

// As getpeername(2) and getsockname(2) of a socket that is no Unix socket of ours; of a TCP connection over which the agent brings a conversation
// (run_protocol.h), who is behind it and this STP host.
int peer_of_tcp(int fd, sockaddr* address, socklen_t* length);
int name_of_tcp(int fd, sockaddr* address, socklen_t* length);

}  // namespace stp::run
