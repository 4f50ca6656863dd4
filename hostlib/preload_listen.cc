#include "hostlib/preload_listen.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {

Way way_of(NetAddress address) {
  const bool loopback = address.ip >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
  if (address.ip == settings().own_ip) return Way::kStp;
  if (address.ip != INADDR_ANY && !loopback) return Way::kTcp;
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

int listen_stp(int fd, const SocketName& name, int backlog) {
  if (real_listen(fd, backlog) != 0) return -1;
  RunCall call;
  call.what = RunRequest::kListen;
  call.port = name.local.port;
  call.backlog = backlog;
  call.flags = name.v6 ? RunCall::kV6 : 0;
  const int code = ask_agent(call);
  say("listening on port %u of STP: %s", name.local.port, std::strerror(code));
  if (code == 0) return 0;
  return no(code == ENOENT || code == EPROTO ? ENETDOWN : code);
}

}  // namespace stp::run
