#include "hostlib/preload_connect.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "hostlib/interrupts.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_options.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {

int outcome(int fd) {
  const auto name = name_of(fd);
  if (!name) {
    pollfd look = {.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)) != 0 && !name_of(fd)) return ECONNRESET;  // the agent died
    const auto again = name_of(fd);
    if (!again) return EALREADY;
    return again->kind == SocketName::Kind::kFailed ? static_cast<int>(again->tail) : 0;
  }
  return name->kind == SocketName::Kind::kFailed ? static_cast<int>(name->tail) : 0;
}

void told_outcome(int fd, int code) {
  set_mark(fd, Mark::kConnecting, false);
  set_mark(fd, Mark::kAlone, code != 0);
  if (code == 0) set_mark(fd, Mark::kYoung, false);
  if (code == 0) forget_epoll(fd);
  if (code != 0) (void)int_option(fd, SOL_SOCKET, SO_ERROR);  // the ECONNRESET that stands for it
}

namespace {

// To a program of this host that listens here: straight to its socket. ECONNREFUSED: there is none.
int connect_here(int fd, NetAddress peer, std::uint16_t own_port, bool v6) {
  const int mine = unix_socket();
  if (mine < 0) return errno;
  SocketName name{.kind = SocketName::Kind::kConnected, .v6 = v6, .local = {peer.ip, 0}, .peer = peer};
  bool bound = false;
  for (int i = 0; i < kTries && !bound; ++i) {
    name.local.port = own_port != 0 ? own_port : some_port();
    name.tail = random_number();
    bound = bind_to(mine, name);
  }
  int code = bound ? ECONNREFUSED : EADDRNOTAVAIL;
  if (nonblocking(fd)) (void)real_fcntl(mine, F_SETFL, O_NONBLOCK);
  copy_options(fd, mine);
  for (const bool listener_v6 : {false, true}) {
    if (!bound) break;
    const UnixName there = encode(SocketName::listener(peer, listener_v6, storage_of(peer.ip).tag));
    if (real_connect(mine, there.get(), there.length) == 0) {
      if (peer.port < kFirstFreePort && user_of(mine) != 0) break;  // anybody can take that name; root's ports are root's
      set_mark(mine, Mark::kHere, true);
      if (const int code_of_install = install(mine, fd, Now::kConnected); code_of_install != 0) return code_of_install;
      tell_if_resets(fd);
      return 0;
    }
    if (errno != ECONNREFUSED) code = errno;
  }
  (void)::close(mine);
  return code;
}

// The agent makes the pair; the program's end takes the descriptor's number. 0: connecting, or an errno.
int begin_connect(int fd, NetAddress peer, std::uint16_t own_port, bool full) {
  RunCall call;
  call.what = RunRequest::kConnect;
  call.ip = peer.ip;
  call.port = peer.port;
  call.own_port = own_port;
  if (full) call.flags |= RunCall::kFull;
  const bool resets = resets_when_closed(fd);
  call.flags |= (is_v6(fd) ? RunCall::kV6 : 0) | (resets ? RunCall::kOn : 0);
  // How long TCP would try. It says what was set in milliseconds.
  if (const int timeout_ms = int_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT); timeout_ms > 0) call.timeout_ms = static_cast<std::uint32_t>(timeout_ms);
  int mine = -1;
  const int code = ask_agent(storage_of(peer.ip), call, &mine);
  if (code != 0) return code == ENOENT || code == EPROTO ? ENETUNREACH : code;
  const int installed = install(mine, fd, Now::kConnecting);
  if (installed == 0 && resets) set_mark(fd, Mark::kResets, true);
  return installed;
}

int wait_for_outcome(int fd) {
  timeval limit = {};
  socklen_t length = sizeof limit;
  (void)real_getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &length);
  const int limit_ms = limit.tv_sec != 0 || limit.tv_usec != 0 ? static_cast<int>(limit.tv_sec * 1000 + limit.tv_usec / 1000) : -1;
  pollfd look = {.fd = fd, .events = POLLOUT, .revents = 0};
  int ready = 0;
  do ready = ::poll(&look, 1, limit_ms);
  while (ready < 0 && errno == EINTR && !host::some_handler_interrupts());
  if (ready < 0) return errno;  // EINTR: it goes on, as TCP's does
  if (ready == 0) return EINPROGRESS;
  const int code = outcome(fd);
  told_outcome(fd, code);
  return code;
}

// A TCP socket with the port of one that is bound in STP. -1 with errno.
int tcp_socket_for(const SocketName& name, bool no_delay) {
  const int made = real_socket(name.v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (made < 0) return -1;
  const auto set = [made](int level, int option, int value) {
    (void)real_setsockopt(made, level, option, static_cast<const void*>(&value), socklen_t{sizeof value});
  };
  set(IPPROTO_TCP, TCP_NODELAY, no_delay ? 1 : 0);
  if (!name.is_listener()) return made;
  sockaddr_storage any = {};
  socklen_t length = sizeof any;
  to_sockaddr({INADDR_ANY, name.local.port}, name.v6, reinterpret_cast<sockaddr*>(&any), &length);
  set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (name.kind == SocketName::Kind::kShared) set(SOL_SOCKET, SO_REUSEPORT, 1);
  if (real_bind(made, reinterpret_cast<const sockaddr*>(&any), length) == 0) return made;
  const int code = errno;
  (void)::close(made);
  return no(code);
}

}  // namespace

int leave_stp(int fd, const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t) || length > sizeof(sockaddr_storage) || address->sa_family == AF_UNSPEC) return 0;  // the kernel refuses it
  if (!marked(fd, Mark::kStp) || !ours(fd)) return 0;
  const bool internet = address->sa_family == AF_INET || address->sa_family == AF_INET6;
  if (const int code = connecting(fd) ? outcome(fd) : 0; code != 0) {
    if (code != EALREADY) told_outcome(fd, code);
    return code;
  }
  if (!unconnected(fd) || int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0) return EISCONN;
  if (!internet) return EAFNOSUPPORT;
  if (length < (address->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6))) return EINVAL;
  const auto name = name_of(fd);
  if (!name) return EINVAL;
  const int mine = tcp_socket_for(*name, marked(fd, Mark::kNoDelay));
  return mine >= 0 ? install(mine, fd, Now::kConnected) : errno;
}

int connect_stp(int fd, NetAddress peer) {
  tcp_info info = {};
  socklen_t info_length = sizeof info;
  if (real_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_length) == 0 && info.tcpi_state != TCP_CLOSE)
    return info.tcpi_state == TCP_SYN_SENT ? EALREADY : EISCONN;  // to TCP, or it listens there
  const auto before = name_of(fd);
  if (!before && connecting(fd)) {
    const int code = outcome(fd);
    if (code == EALREADY) return nonblocking(fd) ? code : wait_for_outcome(fd);
    told_outcome(fd, code);
    return code;
  }
  if (before && before->kind == SocketName::Kind::kFailed && marked(fd, Mark::kConnecting)) {
    told_outcome(fd, static_cast<int>(before->tail));
    return static_cast<int>(before->tail);
  }
  if (before && int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0) return EISCONN;
  if (before && before->is_listener() && before->local.ip != storage_of(peer.ip).own_ip) return EINVAL;  // bound in another storage system
  const bool bound = before && before->is_listener();
  sockaddr_storage other = {};
  socklen_t length = sizeof other;
  if (before && real_getpeername(fd, reinterpret_cast<sockaddr*>(&other), &length) == 0 && before->kind != SocketName::Kind::kFailed) {
    const bool news = marked(fd, Mark::kConnecting);
    set_mark(fd, Mark::kConnecting, false);
    return news ? 0 : EISCONN;
  }
  if (peer.port == 0) return ECONNREFUSED;
  const std::uint16_t own_port = bound || (before && before->kind == SocketName::Kind::kFailed) ? before->local.port : std::uint16_t{0};
  bool full = false;
  if (is_own(peer.ip) && !settings().over_disk) {
    const int code = connect_here(fd, peer, own_port, is_v6(fd));
    // Full: the agent goes on trying. None: perhaps a program that calls STP itself.
    full = code == EAGAIN;
    if (code != ECONNREFUSED && !full) return code;
  }
  if (const int code = begin_connect(fd, peer, own_port, full); code != 0) return code;
  set_mark(fd, Mark::kConnecting, true);
  return nonblocking(fd) ? EINPROGRESS : wait_for_outcome(fd);
}

}  // namespace stp::run
