// Gives a socket a descriptor number of the process.
#pragma once

#include <sys/socket.h>

#include <expected>
#include <memory>

#include "hostlib/runtime.h"

namespace stp::host {

// What may go along with a socket's type, and with accept4 and takesocket.
inline constexpr int kSocketFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;

// The error is an errno; the socket is the caller's then, to close in the engine. With the lock.
std::expected<int, int> install_socket(Runtime& runtime, std::shared_ptr<Socket> socket, int flags);
// Under a number that was reserved in the runtime's table.
void install_socket(Runtime& runtime, int fd, std::shared_ptr<Socket> socket);

}  // namespace stp::host
