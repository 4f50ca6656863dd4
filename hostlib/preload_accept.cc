#include "hostlib/preload_accept.h"

#include <netinet/in.h>

#include <cerrno>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_options.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {
namespace {

// Who is behind a TCP connection that comes from kTcpSource, where anybody may come from: whom the agent does not know is never said to have a
// loopback address.
NetAddress who_is_behind(int fd, std::uint16_t port) {
  constexpr int kPatienceS = 2;
  RunCall call;
  RunAnswer answer;
  call.what = RunRequest::kBehind;
  call.port = port;
  socklen_t length = sizeof call.cookie;
  const bool good = real_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &call.cookie, &length) == 0 &&
                    ask_run_server(first_storage().server, settings().user, call, answer, nullptr, kPatienceS) == 0;
  return good ? NetAddress{answer.ip, static_cast<std::uint16_t>(answer.port)} : NetAddress{first_storage().own_ip, port};
}

// `given` bytes of room were there for what the kernel said.
void correct_peer(int fd, sockaddr* address, socklen_t* length, socklen_t given) {
  const auto peer = *length <= given ? from_sockaddr(address, *length) : std::nullopt;
  if (!peer || peer->ip != kTcpSource) return;
  const bool v6 = address->sa_family == AF_INET6;
  const int kept = errno;
  *length = given;
  to_sockaddr(who_is_behind(fd, peer->port), v6, address, length);
  errno = kept;
}

}  // namespace

bool is_of_agent(int fd) {
  const uid_t user = user_of(fd);
  return user == 0 || user == settings().user;
}

std::optional<SocketName> conversation_of(int fd) {
  auto name = name_of(fd);
  sockaddr_storage peer = {};
  socklen_t length = sizeof peer;
  const int kept = errno;
  if (name && name->is_listener())
    name = real_getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 ? decode(reinterpret_cast<const sockaddr*>(&peer), length) : std::nullopt;
  errno = kept;
  return name && (name->kind == SocketName::Kind::kConnected || name->kind == SocketName::Kind::kRelayed) ? name : std::nullopt;
}

bool accepted(int fd) {
  const auto name = name_of(fd);
  return name && name->is_listener();
}

int peer_of_tcp(int fd, sockaddr* address, socklen_t* length) {
  const socklen_t given = *length;
  const int result = real_getpeername(fd, address, length);
  if (result == 0) correct_peer(fd, address, length, given);
  return result;
}

int name_of_tcp(int fd, sockaddr* address, socklen_t* length) {
  const socklen_t given = *length;
  if (real_getsockname(fd, address, length) != 0) return -1;
  const auto local = *length <= given ? from_sockaddr(address, *length) : std::nullopt;
  if (!local || local->ip >> IN_CLASSA_NSHIFT != IN_LOOPBACKNET) return 0;
  sockaddr_storage other = {};
  socklen_t other_length = sizeof other;
  auto* const any = reinterpret_cast<sockaddr*>(&other);
  const int kept = errno;
  const auto peer = real_getpeername(fd, any, &other_length) == 0 ? from_sockaddr(any, other_length) : std::nullopt;
  errno = kept;
  if (!peer || peer->ip != kTcpSource) return 0;
  const bool v6 = address->sa_family == AF_INET6;
  *length = given;
  to_sockaddr({first_storage().own_ip, local->port}, v6, address, length);
  return 0;
}

std::optional<NetAddress> accepted_from(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (real_getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  const auto name = decode(reinterpret_cast<const sockaddr*>(&address), length);
  const auto own_name = name_of(fd);
  const NetAddress nobody{own_name ? own_name->local.ip : first_storage().own_ip, 0};
  if (!name) return nobody;  // some program that found the socket by itself
  const bool own = name->local.ip == nobody.ip && (name->local.port >= kFirstFreePort || user_of(fd) == 0);
  // Only the agent may say that a conversation comes from another host.
  const bool believed = name->kind == SocketName::Kind::kConnected ? own : is_of_agent(fd);
  return believed ? name->local : nobody;
}

int accept_any(int listener, sockaddr* address, socklen_t* length, int flags) {
  const auto name = settings().on ? name_of(listener) : std::nullopt;
  const socklen_t given = length != nullptr ? *length : 0;
  const int fd = name ? real_accept4(listener, nullptr, nullptr, flags) : real_accept4(listener, address, length, flags);
  if (fd < 0) return fd;
  clear_marks(fd);
  if (!name) {
    if (settings().on && address != nullptr && length != nullptr) correct_peer(fd, address, length, given);
    return fd;
  }
  if (address != nullptr && (length == nullptr || static_cast<int>(given) < 0)) {  // the kernel finds that out, too, when it has one
    (void)real_close(fd);
    return no(length == nullptr ? EFAULT : EINVAL);
  }
  const int kept = errno;
  sockaddr_storage peer = {};
  socklen_t peer_length = sizeof peer;
  (void)real_getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length);
  const auto from = decode(reinterpret_cast<const sockaddr*>(&peer), peer_length);
  if (from && from->kind == SocketName::Kind::kRelayed && is_of_agent(fd)) {
    const int buffer = kSmallestSendBuffer;
    (void)real_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, socklen_t{sizeof buffer});
    const Head head = head_of(*from);
    (void)::send(fd, head.data(), head.size(), MSG_NOSIGNAL | MSG_DONTWAIT);  // the first: there is room
  }
  set_mark(fd, Mark::kStp, true);
  if (from && from->stays_here()) set_mark(fd, Mark::kHere, true);
  inherit_options(listener, fd);
  if (address != nullptr) to_sockaddr(accepted_from(fd).value_or(NetAddress{name->local.ip, 0}), name->v6, address, length);
  errno = kept;
  return fd;
}

}  // namespace stp::run
