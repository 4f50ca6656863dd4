#include "hostlib/preload_listen.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_hold.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {

Way way_of(NetAddress address) {
  const bool loopback = address.ip >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
  if (is_own(address.ip)) return Way::kStp;
  if (address.ip != INADDR_ANY && !loopback) return Way::kTcp;
  return settings().rules.way_of(settings().program, address.port, address.ip != INADDR_ANY);
}

int bind_stp(int fd, NetAddress where) {
  const RunStorage& storage = storage_of(where.ip);
  std::uint16_t port = where.port;
  if (port != 0 && port < kFirstFreePort && ::geteuid() != 0) return EACCES;
  if (port != 0 && int_option(fd, SOL_SOCKET, SO_REUSEPORT) > 0) return bind_shared(fd, {storage.own_ip, port});
  const int bound = unix_socket();
  if (bound < 0) return errno;
  const bool v6 = is_v6(fd);
  const bool any = port == 0;
  int code = 0;
  for (int i = 0; i < kTries; ++i) {
    if (any) port = some_port();
    if (bind_to(bound, SocketName::listener({storage.own_ip, port}, v6, storage.tag))) return install(bound, fd, Now::kBound);
    code = errno;
    const bool again = code == EADDRINUSE && (any || (i == 0 && unshare({storage.own_ip, port})));
    if (!again) break;
  }
  (void)::close(bound);
  return code;
}

namespace {

// 0, or an errno.
int tell_agent(const RunStorage& storage, std::uint16_t port, int backlog, std::uint32_t flags) {
  RunCall call;
  call.what = RunRequest::kListen;
  call.port = port;
  call.backlog = backlog;
  call.flags = flags;
  const int code = ask_agent(storage, call);
  say("listening on port %u of STP: %s", port, std::strerror(code));
  return code == ENOENT || code == EPROTO ? ENETDOWN : code;
}

// What comes over STP comes by IPv4, which such a socket does not take.
bool is_v6_alone(int fd) { return is_v6(fd) && int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) > 0; }

}  // namespace

int listen_stp(int fd, const SocketName& name, int backlog) {
  if (real_listen(fd, backlog) != 0) return -1;
  const bool shared = name.kind == SocketName::Kind::kShared;
  const int code = tell_agent(storage_of(name.local.ip), name.local.port, backlog, (name.v6 ? RunCall::kV6 : 0) | (shared ? RunCall::kHeld : 0));
  if (code != 0) return no(code);
  set_mark(fd, Mark::kYoung, false);
  forget_epoll(fd);
  return 0;
}

int listen_first(int fd, NetAddress where, int backlog) {
  constexpr int kPortTries = 8;
  for (int i = 0;; ++i) {
    if (const int code = bind_stp(fd, where); code != 0) return no(code);
    const auto name = name_of(fd);
    if (!name) return no(EINVAL);
    const int result = listen_stp(fd, *name, backlog);
    if (result == 0 || errno != EADDRINUSE || where.port != 0 || i == kPortTries) return result;  // else one that STP's own programs have
  }
}

int bind_both(int fd, NetAddress where, const sockaddr* address, socklen_t length) {
  if (is_v6_alone(fd)) return real_bind(fd, address, length);
  if (const int code = hold_for_tcp(fd, where); code != 0) {
    say("bind to port %u of STP, beside TCP's: %s", where.port, std::strerror(code));
    return no(code);
  }
  const int result = real_bind(fd, address, length);
  if (result != 0) let_go(fd);
  return result;
}

// Without an agent it is TCP's alone until there is one.
int listen_both(int fd, NetAddress where, int backlog) {
  if (is_v6_alone(fd)) return real_listen(fd, backlog);
  if (!marked(fd, Mark::kHolds))  // bound to port 0
    if (const int code = hold_for_tcp(fd, where); code != 0) return no(code);
  if (real_listen(fd, backlog) != 0) return -1;
  const int code = tell_agent(first_storage(), where.port, backlog, RunCall::kHeld);
  return code == 0 || code == ENETDOWN ? 0 : no(code);
}

std::optional<NetAddress> listens_on_both(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!settings().rules.some_are(Way::kBoth) || !is_internet_stream(fd) || real_getsockname(fd, any, &length) != 0) return std::nullopt;
  const auto where = from_sockaddr(any, length);
  return where && way_of(*where) == Way::kBoth && !is_v6_alone(fd) ? where : std::nullopt;
}

void hold_listener(int fd, NetAddress where) {
  const int code = hold_for_tcp(fd, where);
  if (code != 0) return say("port %u of STP, beside TCP's that was listened on: %s", where.port, std::strerror(code));
  (void)tell_agent(first_storage(), where.port, SOMAXCONN, RunCall::kHeld);
}

}  // namespace stp::run
