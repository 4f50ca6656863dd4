#include "hostlib/preload_listen.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {

bool is_loopback(std::uint32_t ip) { return ip >> 24 == 127; }

Way way_of(NetAddress address) {
  if (address.ip == settings().own_ip) return Way::kStp;
  if (address.ip != INADDR_ANY && !is_loopback(address.ip)) return Way::kTcp;
  return settings().rules.way_of(settings().program, address.port, address.ip != INADDR_ANY);
}

int bind_stp(int fd, std::uint16_t port) {
  if (port != 0 && port < kFirstFreePort && ::geteuid() != 0) return EACCES;
  const int bound = unix_socket();
  if (bound < 0) return errno;
  const bool v6 = is_v6(fd);
  const bool any = port == 0;
  for (int i = 0; i < kTries; ++i) {
    if (any) port = some_port();
    if (bind_to(bound, SocketName::listener({settings().own_ip, port}, v6, settings().storage))) return install(bound, fd);
    if (!any || errno != EADDRINUSE) break;
  }
  const int code = errno;
  (void)::close(bound);
  return code;
}

namespace {

// 0, or an errno.
int tell_of_listener(RunCall call, int backlog) {
  call.what = RunRequest::kListen;
  call.backlog = backlog;
  const int code = ask_agent(call);
  say("listening on port %u of STP: %s", call.port, std::strerror(code));
  return code == ENOENT || code == EPROTO ? ENETDOWN : code;
}

}  // namespace

int listen_stp(int fd, const SocketName& name, int backlog) {
  if (real_listen(fd, backlog) != 0) return -1;
  RunCall call;
  call.port = name.local.port;
  call.flags = name.v6 ? RunCall::kV6 : 0;
  const int code = tell_of_listener(call, backlog);
  return code == 0 ? 0 : no(code);
}

}  // namespace stp::run
