// What the preloaded library asks the kernel about a descriptor, and how an STP socket takes a descriptor's number.
//
// Any thread. Where nothing else is said, errno stays what it was.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstdint>
#include <optional>

#include "hostlib/run_address.h"

namespace stp::run {

inline constexpr int kTries = 64;  // for a name that is free

// As a failed call returns.
inline int no(int code) {
  errno = code;
  return -1;
}

std::uint32_t random_number();
std::uint16_t some_port();  // as the kernel gives one to a client

// Nothing when the descriptor is no STP socket, or one that connects still.
std::optional<SocketName> name_of(int fd);
int int_option(int fd, int level, int option);  // -1 with errno
// To STP, and its outcome was not told yet.
bool connecting(int fd);
bool ours(int fd);
// An STP socket that is bound, or listens, or whose connect failed.
bool unconnected(int fd);
bool is_internet_stream(int fd);
bool is_v6(int fd);
bool nonblocking(int fd);
uid_t user_of(int fd);  // of a connected Unix socket's other side
// What a program may have set on a socket before it became an STP socket, or on a listener.
void copy_option(int from, int to, int option, socklen_t size);
void copy_options(int from, int to);

int unix_socket();  // -1 with errno
bool bind_to(int fd, const SocketName& name);  // false with errno
enum class Now : std::uint8_t { kConnected, kConnecting, kBound };
// `from` takes the number `to`, and those of its copies, with what the program had set there. 0, or an errno; `from` is closed. Until it is connected it stays
// young: another one may take the number once more.
int install(int from, int to, Now now);

}  // namespace stp::run
