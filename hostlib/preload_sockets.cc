// The socket calls that the preloaded library of `stp run` answers: names, addresses and how a socket begins. An STP socket is a
// connected or listening Unix socket of the kernel (run_protocol.h), and everything else - reading, writing, waiting, fork, dup, exec, passing it on - is
// the kernel's own business.
//
// A socket begins as what the program asked for. Once an address decides that it is STP's, a Unix socket takes its number.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "hostlib/interrupts.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_address.h"
#include "hostlib/run_protocol.h"

namespace stp::run {
namespace {

constexpr std::uint16_t kFirstFreePort = 1024;     // those below are root's
constexpr std::uint16_t kFirstOwnPort = 32768, kOwnPorts = 28232;  // as the kernel's ip_local_port_range
constexpr int kTries = 64;
constexpr int kLoopbackNet = 127;

int no(int code) {
  errno = code;
  return -1;
}

std::uint32_t random_number() {
  std::uint32_t number = 0;
  (void)!::getrandom(&number, sizeof number, GRND_NONBLOCK);
  return number;
}

std::uint16_t some_port() { return static_cast<std::uint16_t>(kFirstOwnPort + random_number() % kOwnPorts); }

// Nothing when the descriptor is no STP socket, or one that connects still.
std::optional<SocketName> name_of(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  const int kept = errno;
  const bool good = real_getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  errno = kept;
  return good ? decode(reinterpret_cast<const sockaddr*>(&address), length) : std::nullopt;
}


int int_option(int fd, int level, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  return real_getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
}

// The mark may be of a socket that had this number before.
bool connecting(int fd) { return marked(fd, Mark::kConnecting) && int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX; }

bool ours(int fd) {
  const int kept = errno;
  const bool is = name_of(fd).has_value() || connecting(fd);
  errno = kept;
  return is;
}

bool is_internet_stream(int fd) {
  const int kept = errno;
  const int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
  const bool is = (domain == AF_INET || domain == AF_INET6) && int_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
  errno = kept;
  return is;
}

bool is_v6(int fd) {
  if (const auto name = name_of(fd)) return name->v6;
  return marked(fd, Mark::kV6) || int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6;
}

bool nonblocking(int fd) { return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

void copy_timeouts(int from, int to) {
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval span = {};
    socklen_t length = sizeof span;
    if (real_getsockopt(from, SOL_SOCKET, option, &span, &length) == 0) (void)real_setsockopt(to, SOL_SOCKET, option, &span, length);
  }
}

// `from` takes the number `to`, with what the program had set there. 0, or an errno.
int install(int from, int to) {
  const int flags = ::fcntl(to, F_GETFL), descriptor_flags = ::fcntl(to, F_GETFD);
  if (flags < 0 || descriptor_flags < 0) return errno;
  (void)::fcntl(from, F_SETFL, flags & (O_NONBLOCK | O_ASYNC));
  copy_timeouts(to, from);
  const bool v6 = is_v6(to);
  const bool no_delay = marked(to, Mark::kNoDelay) || int_option(to, IPPROTO_TCP, TCP_NODELAY) > 0;
  const int code = ::dup3(from, to, (descriptor_flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) < 0 ? errno : 0;
  (void)::close(from);
  if (code != 0) return code;
  clear_marks(to);
  set_mark(to, Mark::kV6, v6);
  set_mark(to, Mark::kNoDelay, no_delay);
  register_again(to);
  return 0;
}

int unix_socket() { return real_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }

bool bind_to(int fd, const SocketName& name) {
  const UnixName text = encode(name);
  return real_bind(fd, text.get(), text.length) == 0;
}

int ask(const RunCall& call, int* descriptor = nullptr) {
  RunAnswer answer;
  const int code = ask_run_server(settings().server, settings().user, call, answer, descriptor);
  if (code == ENOENT || code == EPROTO) say("no agent answers (it ended, or is another user's)");
  return code;
}

// -- Listening -----------------------------------------------------------------------------------------------------

bool is_loopback(std::uint32_t ip) { return ip >> 24 == kLoopbackNet; }

// Where a socket bound there listens.
Way way_of(NetAddress address) {
  if (address.ip == settings().own_ip) return Way::kStp;
  if (address.ip != INADDR_ANY && !is_loopback(address.ip)) return Way::kTcp;
  return settings().rules.way_of(settings().program, address.port, address.ip != INADDR_ANY);
}

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

// Makes `fd` an STP socket bound to the port, 0 for a free one. 0, or an errno.
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

// 0, or an errno.
int tell_of_listener(RunCall call, int backlog) {
  call.what = RunRequest::kListen;
  call.backlog = backlog;
  const int code = ask(call);
  say("listening on port %u of STP: %s", call.port, std::strerror(code));
  return code == ENOENT || code == EPROTO ? ENETDOWN : code;
}

int listen_stp(int fd, const SocketName& name, int backlog) {
  if (real_listen(fd, backlog) != 0) return -1;
  RunCall call;
  call.port = name.local.port;
  call.own_port = name.peer.port;
  call.flags = name.v6 ? RunCall::kV6 : 0;
  const int code = tell_of_listener(call, backlog);
  return code == 0 ? 0 : no(code);
}

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
    const int high = ::fcntl(low, F_DUPFD_CLOEXEC, kOutOfTheWay);
    if (high >= 0) (void)::close(low);
    each = std::uint64_t{where.port} << 32 | static_cast<std::uint32_t>(high >= 0 ? high : low);
    return true;
  }
  return false;
}

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

// The TCP connection of a conversation that came over STP: who is behind it.
NetAddress who_is_behind(NetAddress peer) {
  if (peer.ip != kTcpSource) return peer;
  RunCall call;
  RunAnswer answer;
  call.what = RunRequest::kBehind;
  call.port = peer.port;
  if (ask_run_server(settings().server, settings().user, call, answer) != 0) return peer;
  return {answer.ip, static_cast<std::uint16_t>(answer.port)};
}

// After a call of the C library gave an address of TCP's, of which `given` bytes were room.
void name_who_is_behind(sockaddr* address, socklen_t* length, socklen_t given) {
  if (address == nullptr || length == nullptr || *length > given) return;
  const int kept = errno;
  const auto peer = from_sockaddr(address, *length);
  if (peer && peer->ip == kTcpSource) {
    const bool v6 = address->sa_family == AF_INET6;
    *length = given;
    to_sockaddr(who_is_behind(*peer), v6, address, length);
  }
  errno = kept;
}

uid_t user_of(int fd) {
  ucred who = {};
  socklen_t length = sizeof who;
  return real_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 ? who.uid : static_cast<uid_t>(-1);
}

// Only the agent may say that a conversation comes from another host.
bool is_of_agent(int fd) {
  const uid_t user = user_of(fd);
  return user == 0 || user == settings().user;
}

// Who is at the other end of a socket that was accepted.
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

// The other way: what came over STP came to this host's address.
void name_own_address(int fd, sockaddr* address, socklen_t* length, socklen_t given) {
  const auto local = *length <= given ? from_sockaddr(address, *length) : std::nullopt;
  if (!local || !is_loopback(local->ip)) return;
  sockaddr_storage other = {};
  socklen_t other_length = sizeof other;
  const int kept = errno;
  const bool connected = real_getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_length) == 0;
  const auto peer = connected ? from_sockaddr(reinterpret_cast<const sockaddr*>(&other), other_length) : std::nullopt;
  errno = kept;
  if (!peer || peer->ip != kTcpSource) return;
  const bool v6 = address->sa_family == AF_INET6;
  *length = given;
  to_sockaddr({settings().own_ip, local->port}, v6, address, length);
}

int accept_any(int listener, sockaddr* address, socklen_t* length, int flags) {
  const auto name = settings().on ? name_of(listener) : std::nullopt;
  const socklen_t given = length != nullptr ? *length : 0;
  const int fd = name ? real_accept4(listener, nullptr, nullptr, flags) : real_accept4(listener, address, length, flags);
  if (fd < 0) return fd;
  clear_marks(fd);
  if (!name) {
    if (settings().on) name_who_is_behind(address, length, given);
    return fd;
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
  if (address != nullptr) to_sockaddr(accepted_from(fd).value_or(NetAddress{settings().own_ip, 0}), name->v6, address, length);
  errno = kept;
  return fd;
}

// -- Connecting ----------------------------------------------------------------------------------------------------

// The sockets of this host that share that port. Who knocks with another type of socket is told whether there is one, and nothing more.
std::vector<SocketName> those_that_share(NetAddress port) {
  std::vector<SocketName> there;
  const int knocks = real_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (knocks < 0) return there;
  for (std::uint16_t share = 1; share <= kMostSharers; ++share) {
    for (const bool v6 : {false, true}) {
      const SocketName name = SocketName::listener(port, v6, settings().storage, share);
      const UnixName text = encode(name);
      if (real_connect(knocks, text.get(), text.length) != 0 && errno == EPROTOTYPE) there.push_back(name);
    }
  }
  (void)::close(knocks);
  return there;
}

// To a program of this host that listens here: straight to its socket. ECONNREFUSED: there is none.
int connect_here(int fd, NetAddress peer, bool v6) {
  const int mine = unix_socket();
  if (mine < 0) return errno;
  SocketName name{.kind = SocketName::Kind::kConnected, .v6 = v6, .local = {settings().own_ip, 0}, .peer = peer};
  bool bound = false;
  for (int i = 0; i < kTries && !bound; ++i) {
    name.local.port = some_port();
    name.tail = random_number();
    bound = bind_to(mine, name);
  }
  int code = bound ? ECONNREFUSED : EADDRNOTAVAIL;
  if (nonblocking(fd)) (void)::fcntl(mine, F_SETFL, O_NONBLOCK);
  copy_timeouts(fd, mine);
  const auto try_one = [&](const SocketName& listener) {
    const UnixName there = encode(listener);
    const bool connected = real_connect(mine, there.get(), there.length) == 0;
    if (!connected && errno != ECONNREFUSED) code = errno;
    return connected;
  };
  bool connected = false;
  for (const bool listener_v6 : {false, true}) connected = connected || (bound && try_one(SocketName::listener(peer, listener_v6, settings().storage)));
  if (!connected && bound) {
    const auto sharing = those_that_share(peer);
    const std::size_t first = sharing.empty() ? 0 : random_number() % sharing.size();
    for (std::size_t i = 0; i < sharing.size() && !connected; ++i) connected = try_one(sharing[(first + i) % sharing.size()]);
  }
  // Anybody can take such a name; root's ports are root's.
  if (connected && (peer.port >= kFirstFreePort || user_of(mine) == 0)) return install(mine, fd);
  if (connected) code = ECONNREFUSED;
  (void)::close(mine);
  return code;
}

// The agent makes the pair; the program's end takes the descriptor's number. 0: connecting, or an errno.
int begin_connect(int fd, NetAddress peer, std::uint16_t own_port) {
  RunCall call;
  call.what = RunRequest::kConnect;
  call.ip = peer.ip;
  call.port = peer.port;
  call.own_port = own_port;
  call.flags = is_v6(fd) ? RunCall::kV6 : 0;
  int mine = -1;
  const int code = ask(call, &mine);
  if (code != 0) return code == ENOENT || code == EPROTO ? ENETUNREACH : code;
  return install(mine, fd);
}

// How a connect ended that began before: 0, the errno, or EALREADY while it goes on.
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
  set_mark(fd, Mark::kConnecting, false);
  return code;
}

// `peer` is an address of the network.
int connect_stp(int fd, NetAddress peer) {
  const auto before = name_of(fd);
  if (!before && connecting(fd)) {
    const int code = outcome(fd);
    if (code == EALREADY) return nonblocking(fd) ? code : wait_for_outcome(fd);
    set_mark(fd, Mark::kConnecting, false);
    return code;
  }
  const bool bound = before && before->kind == SocketName::Kind::kListener && int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0;
  sockaddr_storage other = {};
  socklen_t length = sizeof other;
  if (before && real_getpeername(fd, reinterpret_cast<sockaddr*>(&other), &length) == 0 && before->kind != SocketName::Kind::kFailed) {
    const bool news = marked(fd, Mark::kConnecting);
    set_mark(fd, Mark::kConnecting, false);
    return news ? 0 : EISCONN;
  }
  if (peer.port == 0) return ECONNREFUSED;
  if (peer.ip == settings().own_ip) {
    const int code = connect_here(fd, peer, is_v6(fd));
    // Full: the agent goes on trying. None: perhaps a program that calls STP itself.
    if (code != ECONNREFUSED && code != EAGAIN) return code;
  }
  if (const int code = begin_connect(fd, peer, bound ? before->local.port : std::uint16_t{0}); code != 0) return code;
  set_mark(fd, Mark::kConnecting, true);
  return nonblocking(fd) ? EINPROGRESS : wait_for_outcome(fd);
}

// -- Options -------------------------------------------------------------------------------------------------------

int give_option(const void* source, socklen_t size, void* value, socklen_t* length) {
  if (value == nullptr || length == nullptr) return no(EFAULT);
  *length = std::min(*length, size);
  std::memcpy(value, source, *length);
  return 0;
}

int give_int(int number, void* value, socklen_t* length) { return give_option(&number, sizeof number, value, length); }

// SO_LINGER of 0 seconds: closed, the socket is reset. The agent does it, who has the other end.
void tell_of_linger(int fd, const void* value) {
  linger wanted = {};
  std::memcpy(&wanted, value, sizeof wanted);
  auto name = wanted.l_onoff != 0 && wanted.l_linger == 0 ? name_of(fd) : std::nullopt;
  if (!name) return;
  sockaddr_storage peer = {};
  socklen_t length = sizeof peer;
  if (name->kind == SocketName::Kind::kListener && real_getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0)
    name = decode(reinterpret_cast<const sockaddr*>(&peer), length);  // accepted: the agent's end has the name
  if (!name || (name->kind != SocketName::Kind::kConnected && name->kind != SocketName::Kind::kRelayed)) return;
  RunCall call;
  RunAnswer answer;
  call.what = RunRequest::kResetWhenClosed;
  text_of(*name).copy(call.name.data(), call.name.size() - 1);
  (void)ask_run_server(settings().server, settings().user, call, answer);  // ENOENT: of two programs of this host
}

int tcp_option(int fd, int option, void* value, socklen_t* length) {
  constexpr int kSegment = 65483;  // what TCP has on the loopback interface
  switch (option) {
    case TCP_NODELAY: return give_int(marked(fd, Mark::kNoDelay) ? 1 : 0, value, length);
    case TCP_MAXSEG: return give_int(kSegment, value, length);
    case TCP_CONGESTION: return give_option("cubic\0\0\0\0\0\0\0\0\0\0", 16, value, length);
    case TCP_INFO: {
      tcp_info info = {};
      info.tcpi_state = TCP_ESTABLISHED;
      info.tcpi_snd_mss = info.tcpi_rcv_mss = info.tcpi_advmss = kSegment;
      info.tcpi_pmtu = kSegment;
      info.tcpi_snd_cwnd = 10;
      return give_option(&info, sizeof info, value, length);
    }
    default: return give_int(0, value, length);
  }
}

// True when the call is answered here.
bool answers_option(int level, int option) {
  if (level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6) return true;
  return level == SOL_SOCKET && (option == SO_ERROR || option == SO_DOMAIN || option == SO_PROTOCOL || option == SO_REUSEPORT);
}

int get_option(int fd, int level, int option, void* value, socklen_t* length) {
  if (level == IPPROTO_TCP) return tcp_option(fd, option, value, length);
  if (level == IPPROTO_IP && option == IP_OPTIONS) return give_option("", 0, value, length);  // there are none
  if (level == SOL_SOCKET && option == SO_REUSEPORT) {
    const auto name = name_of(fd);
    return give_int(name && name->kind == SocketName::Kind::kListener && name->peer.port != 0 ? 1 : 0, value, length);
  }
  if (level != SOL_SOCKET) return give_int(0, value, length);
  if (option == SO_DOMAIN) return give_int(is_v6(fd) ? AF_INET6 : AF_INET, value, length);
  if (option == SO_PROTOCOL) return give_int(IPPROTO_TCP, value, length);
  if (!marked(fd, Mark::kConnecting)) return real_getsockopt(fd, level, option, value, length);
  const int code = outcome(fd);
  if (code == EALREADY) return give_int(0, value, length);
  set_mark(fd, Mark::kConnecting, false);
  int ignored = 0;
  socklen_t size = sizeof ignored;
  if (code != 0) (void)real_getsockopt(fd, SOL_SOCKET, SO_ERROR, &ignored, &size);  // the ECONNRESET that stands for it
  return give_int(code, value, length);
}

}  // namespace
}  // namespace stp::run

using namespace stp::run;

extern "C" {

STP_ANSWER(int, socket)(int domain, int type, int protocol) {
  const int fd = real_socket(domain, type, protocol);
  if (fd < 0 || !settings().on) return fd;
  clear_marks(fd);
  const bool stream = (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP);
  if (stream && (domain == AF_INET || domain == AF_INET6)) {
    forget_epoll(fd);
    set_mark(fd, Mark::kYoung, true);
    set_mark(fd, Mark::kV6, domain == AF_INET6);
  }
  return fd;
}

STP_ANSWER(int, bind)(int fd, const sockaddr* address, socklen_t length) STP_THROWS_NOTHING {
  const auto wanted = settings().on ? from_sockaddr(address, length) : std::nullopt;
  if (!wanted || !is_internet_stream(fd)) return real_bind(fd, address, length);
  if (wanted->ip != settings().own_ip && settings().network.contains(wanted->ip)) return no(EADDRNOTAVAIL);
  // With port 0 it may be a client's: TCP, until it listens.
  const bool decided = way_of(*wanted) == Way::kStp && (wanted->port != 0 || wanted->ip == settings().own_ip);
  if (!decided) return real_bind(fd, address, length);
  const int code = bind_stp(fd, wanted->port);
  if (code != 0) say("bind to port %u of STP: %s", wanted->port, std::strerror(code));
  return code == 0 ? 0 : no(code);
}

STP_ANSWER(int, listen)(int fd, int backlog) STP_THROWS_NOTHING {
  if (!settings().on) return real_listen(fd, backlog);
  if (const auto name = name_of(fd); name && name->kind == SocketName::Kind::kListener) return listen_stp(fd, *name, backlog);
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (!is_internet_stream(fd) || real_getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return real_listen(fd, backlog);
  const auto bound = from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  if (!bound || bound->port == 0) return real_listen(fd, backlog);
  const Way way = way_of(*bound);
  if (way == Way::kBoth) return listen_both(fd, *bound, backlog);
  if (bound->ip != INADDR_ANY || way == Way::kTcp) return real_listen(fd, backlog);
  if (int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0) return real_listen(fd, backlog);
  if (const int code = bind_stp(fd, bound->port); code != 0) return no(code);
  const auto name = name_of(fd);
  return name ? listen_stp(fd, *name, backlog) : no(EINVAL);
}

STP_ANSWER(int, accept)(int fd, sockaddr* __restrict address, socklen_t* __restrict length) {
  return accept_any(fd, address, length, 0);
}

STP_ANSWER(int, accept4)(int fd, sockaddr* __restrict address, socklen_t* __restrict length, int flags) {
  return accept_any(fd, address, length, flags);
}

STP_ANSWER(int, connect)(int fd, const sockaddr* address, socklen_t length) {
  const auto peer = settings().on ? from_sockaddr(address, length) : std::nullopt;
  const bool to_stp = peer && settings().network.contains(peer->ip) && (is_internet_stream(fd) || ours(fd));
  if (!to_stp) {
    if (marked(fd, Mark::kYoung)) {
      clear_marks(fd);
      forget_epoll(fd);
    }
    return real_connect(fd, address, length);
  }
  const int code = connect_stp(fd, *peer);
  if (code != 0 && code != EINPROGRESS && code != EALREADY) say("connect to port %u: %s", peer->port, std::strerror(code));
  return code == 0 ? 0 : no(code);
}

STP_ANSWER(int, shutdown)(int fd, int how) STP_THROWS_NOTHING {
  // A Unix socket's peer would hear of it; TCP's does not.
  if (how == SHUT_RD && settings().on && ours(fd) && int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0) return 0;
  return real_shutdown(fd, how);
}

STP_ANSWER(int, getsockname)(int fd, sockaddr* __restrict address, socklen_t* __restrict length) STP_THROWS_NOTHING {
  if (!settings().on || address == nullptr || length == nullptr) return real_getsockname(fd, address, length);
  const auto name = name_of(fd);
  if (!name && !connecting(fd)) {
    const socklen_t given = *length;
    const int result = real_getsockname(fd, address, length);
    if (result == 0) name_own_address(fd, address, length, given);
    return result;
  }
  // One that connects has no port yet that is known here.
  to_sockaddr(name && name->kind != SocketName::Kind::kFailed ? name->local : NetAddress{settings().own_ip, 0}, is_v6(fd), address, length);
  return 0;
}

STP_ANSWER(int, getpeername)(int fd, sockaddr* __restrict address, socklen_t* __restrict length) STP_THROWS_NOTHING {
  if (!settings().on || address == nullptr || length == nullptr) return real_getpeername(fd, address, length);
  const auto name = name_of(fd);
  if (!name && connecting(fd)) return no(ENOTCONN);
  if (!name) {
    const socklen_t given = *length;
    const int result = real_getpeername(fd, address, length);
    if (result == 0) name_who_is_behind(address, length, given);
    return result;
  }
  if (name->kind == SocketName::Kind::kFailed) return no(ENOTCONN);
  const auto peer = name->kind == SocketName::Kind::kConnected ? std::optional(name->peer) : accepted_from(fd);
  if (!peer) return no(ENOTCONN);
  to_sockaddr(*peer, name->v6, address, length);
  return 0;
}

STP_ANSWER(int, getsockopt)(int fd, int level, int option, void* __restrict value, socklen_t* __restrict length) STP_THROWS_NOTHING {
  if (!settings().on || !answers_option(level, option) || !ours(fd)) return real_getsockopt(fd, level, option, value, length);
  return get_option(fd, level, option, value, length);
}

STP_ANSWER(int, setsockopt)(int fd, int level, int option, const void* value, socklen_t length) STP_THROWS_NOTHING {
  if (settings().on && level == SOL_SOCKET && option == SO_SNDBUF && value != nullptr && length >= sizeof(int) && ours(fd)) {
    if (!name_of(fd)) return 0;  // its smallness is what says that it connects; the agent gives it a large one then
    int bytes = 0;
    std::memcpy(&bytes, value, sizeof bytes);
    bytes = std::max(bytes, kSmallestSendBuffer);
    return real_setsockopt(fd, level, option, &bytes, socklen_t{sizeof bytes});
  }
  if (settings().on && level == SOL_SOCKET && option == SO_LINGER && value != nullptr && length >= sizeof(linger)) tell_of_linger(fd, value);
  if (!settings().on || !answers_option(level, option) || !ours(fd)) return real_setsockopt(fd, level, option, value, length);
  if (level == IPPROTO_TCP && option == TCP_NODELAY && value != nullptr && length >= sizeof(int)) {
    int on = 0;
    std::memcpy(&on, value, sizeof on);
    set_mark(fd, Mark::kNoDelay, on != 0);
  }
  return 0;
}

STP_ANSWER(int, epoll_ctl)(int epoll, int operation, int fd, epoll_event* event) STP_THROWS_NOTHING {
  const int result = real_epoll_ctl(epoll, operation, fd, event);
  if (result == 0 && settings().on && marked(fd, Mark::kYoung)) note_epoll(epoll, operation, fd, event);
  return result;
}

}  // extern "C"
