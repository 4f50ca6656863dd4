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

namespace {

SocketName listener_name(std::uint16_t port, bool v6, std::uint16_t share) {
  return SocketName::listener({settings().own_ip, port}, v6, settings().storage, share);
}

// A name of those that share the port. Not beside one that has it for itself: its name is free, or taken for a moment by somebody who looks, too.
bool bind_shared(int fd, std::uint16_t port, bool v6) {
  constexpr useconds_t kMoment = 1000;
  constexpr int kMoments = 20;
  const int probe = unix_socket();
  bool alone = false;
  for (int i = 0; i < kMoments && !alone && probe >= 0; ++i) {
    alone = bind_to(probe, listener_name(port, v6, 0));
    if (!alone) (void)::usleep(kMoment);
  }
  bool bound = false;
  for (std::uint16_t share = 1; alone && share <= kMostSharers && !bound; ++share) bound = bind_to(fd, listener_name(port, v6, share));
  const int code = errno;
  if (probe >= 0) (void)::close(probe);
  errno = code;
  return bound;
}

}  // namespace

int bind_stp(int fd, std::uint16_t port) {
  if (port != 0 && port < kFirstFreePort && ::geteuid() != 0) return EACCES;
  const int bound = unix_socket();
  if (bound < 0) return errno;
  const bool v6 = is_v6(fd);
  const bool any = port == 0;
  const bool shares = !any && int_option(fd, SOL_SOCKET, SO_REUSEPORT) > 0;
  for (int i = 0; i < kTries; ++i) {
    if (any) port = some_port();
    if (shares ? bind_shared(bound, port, v6) : bind_to(bound, listener_name(port, v6, 0))) return install(bound, fd);
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
  call.own_port = name.peer.port;
  call.flags = name.v6 ? RunCall::kV6 : 0;
  const int code = tell_of_listener(call, backlog);
  return code == 0 ? 0 : no(code);
}

namespace {

// The name by which an agent finds a program that listens on TCP for both, as long as the process lives: a socket that is nothing else, out of the way of
// the numbers that a program counts on. One for each port.
bool leave_name(NetAddress where) {
  constexpr int kOutOfTheWay = 512;
  constexpr std::size_t kMost = 64;
  static std::array<std::atomic<std::uint64_t>, kMost> names;  // port and descriptor
  for (std::atomic<std::uint64_t>& each : names) {
    const std::uint64_t there = each.load();
    const auto name = name_of(static_cast<int>(there & 0xffffffff));
    if (name && name->kind == SocketName::Kind::kOverTcp && there >> 32 == where.port) return true;
    if (there != 0 && name) continue;  // another port's
    const int low = unix_socket();
    const SocketName mine{.kind = SocketName::Kind::kOverTcp, .local = where, .peer = {settings().storage, 0}, .tail = random_number()};
    if (low < 0 || !bind_to(low, mine)) return false;
    const int high = real_fcntl(low, F_DUPFD_CLOEXEC, kOutOfTheWay);
    if (high >= 0) (void)::close(low);
    each = std::uint64_t{where.port} << 32 | static_cast<std::uint32_t>(high >= 0 ? high : low);
    return true;
  }
  return false;
}

}  // namespace

// On TCP, where it is bound, and what comes over STP is brought there. Without an agent it is TCP's alone until there is one.
int listen_both(int fd, NetAddress where, int backlog) {
  if (real_listen(fd, backlog) != 0) return -1;
  if (is_v6(fd) && int_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) > 0) return 0;  // what comes over STP comes from an IPv4 address
  RunCall call;
  call.port = where.port;
  call.ip = where.ip;
  call.flags = RunCall::kOverTcp;
  if (!leave_name(where)) say("an agent that is started again will not find port %u", where.port);
  const int code = tell_of_listener(call, backlog);
  return code == 0 || code == ENETDOWN ? 0 : no(code);
}

}  // namespace stp::run
