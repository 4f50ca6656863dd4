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

// After a call of the C library gave an address of TCP's, of which `given` bytes were room: that of the peer, or that of `fd` itself,
// where the conversation came over STP.
void name_who_is_behind(sockaddr* address, socklen_t* length, socklen_t given);
void name_own_address(int fd, sockaddr* address, socklen_t* length, socklen_t given);

}  // namespace stp::run
