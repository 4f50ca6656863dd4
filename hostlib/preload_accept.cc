#include "hostlib/preload_accept.h"

#include <cerrno>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {
namespace {

// Only the agent may say that a conversation comes from another host.
bool is_of_agent(int fd) {
  const uid_t user = user_of(fd);
  return user == 0 || user == settings().user;
}

}  // namespace

std::optional<NetAddress> accepted_from(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (real_getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  const auto name = decode(reinterpret_cast<const sockaddr*>(&address), length);
  if (!name) return NetAddress{settings().own_ip, 0};  // some program that found the socket by itself
  const bool own = name->local.ip == settings().own_ip && (name->local.port >= kFirstFreePort || user_of(fd) == 0);
  const bool believed = name->kind == SocketName::Kind::kConnected ? own : is_of_agent(fd);
  return believed ? name->local : NetAddress{settings().own_ip, 0};
}

int accept_any(int listener, sockaddr* address, socklen_t* length, int flags) {
  const auto name = settings().on ? name_of(listener) : std::nullopt;
  const int fd = name ? real_accept4(listener, nullptr, nullptr, flags) : real_accept4(listener, address, length, flags);
  if (fd < 0) return fd;
  clear_marks(fd);
  if (!name) return fd;
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
  if (address != nullptr) to_sockaddr(accepted_from(fd).value_or(NetAddress{settings().own_ip, 0}), name->v6, address, length);
  errno = kept;
  return fd;
}

}  // namespace stp::run
