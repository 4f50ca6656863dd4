// The calls that the preloaded library of `stp run` answers: names, addresses and how a socket begins. An STP socket is a
// connected or listening Unix socket of the kernel (run_protocol.h), and everything else - reading, writing, waiting, fork, exec, passing it on - is
// the kernel's own business.
//
// A socket begins as what the program asked for. Once an address decides that it is STP's, a Unix socket takes its number.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "hostlib/preload_accept.h"
#include "hostlib/preload_connect.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_hold.h"
#include "hostlib/preload_listen.h"
#include "hostlib/preload_options.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_reset.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_address.h"
#include "hostlib/run_protocol.h"

using namespace stp::run;

namespace {

// What the kernel would refuse, it refuses.
bool is_room(const sockaddr* address, const socklen_t* length) { return address != nullptr && length != nullptr && static_cast<int>(*length) >= 0; }

// An STP socket has its port. What is wrong with the address is said first.
int why_not_bound_again(const sockaddr* address, socklen_t length) {
  if (length > sizeof(sockaddr_storage)) return EINVAL;
  if (address == nullptr) return length == 0 ? EINVAL : EFAULT;
  if (length < sizeof(sockaddr_in)) return EINVAL;
  if (address->sa_family != AF_INET && address->sa_family != AF_INET6) return EAFNOSUPPORT;
  const auto wanted = from_sockaddr(address, length);
  return wanted && !is_own(wanted->ip) && settings().network.contains(wanted->ip) ? EADDRNOTAVAIL : EINVAL;
}

}  // namespace

extern "C" {

STP_ANSWER(int, socket)(int domain, int type, int protocol) {
  const int fd = real_socket(domain, type, protocol);
  if (fd < 0 || !settings().on) return fd;
  clear_marks(fd);
  const bool stream = (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP);
  if (stream && (domain == AF_INET || domain == AF_INET6)) {
    set_mark(fd, Mark::kYoung, true);
    set_mark(fd, Mark::kV6, domain == AF_INET6);
  }
  return fd;
}

STP_ANSWER(int, bind)(int fd, const sockaddr* address, socklen_t length) STP_THROWS_NOTHING {
  const auto wanted = settings().on ? from_sockaddr(address, length) : std::nullopt;
  if (settings().on && marked(fd, Mark::kStp) && ours(fd)) return no(why_not_bound_again(address, length));
  if (!wanted || !is_internet_stream(fd)) return real_bind(fd, address, length);
  if (!is_own(wanted->ip) && settings().network.contains(wanted->ip)) return no(EADDRNOTAVAIL);
  // With port 0 it may be a client's: TCP, until it listens.
  const Way way = way_of(*wanted);
  const bool decided = way == Way::kStp && (wanted->port != 0 || is_own(wanted->ip));
  if (way == Way::kBoth && wanted->port != 0) return bind_both(fd, *wanted, address, length);
  if (!decided) return real_bind(fd, address, length);
  const int code = bind_stp(fd, *wanted);
  if (code != 0) say("bind to port %u of STP: %s", wanted->port, std::strerror(code));
  return code == 0 ? 0 : no(code);
}

STP_ANSWER(int, listen)(int fd, int backlog) STP_THROWS_NOTHING {
  if (!settings().on) return real_listen(fd, backlog);
  if (const auto name = name_of(fd); name && name->is_listener()) return listen_stp(fd, *name, backlog);
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (!is_internet_stream(fd) || real_getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return real_listen(fd, backlog);
  const auto bound = from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  if (!bound || int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0) return real_listen(fd, backlog);
  const Way way = way_of(*bound);
  if (way == Way::kBoth && bound->port == 0) return real_listen(fd, backlog);  // never bound: which port, the kernel decides now
  if (way == Way::kBoth) return listen_both(fd, *bound, backlog);
  if (bound->ip != INADDR_ANY || way == Way::kTcp) return real_listen(fd, backlog);
  return listen_first(fd, *bound, backlog);
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
    if (const int code = settings().on ? leave_stp(fd, address, length) : 0; code != 0) return no(code);
    if (marked(fd, Mark::kYoung) && !marked(fd, Mark::kStp)) clear_marks(fd);
    return real_connect(fd, address, length);
  }
  const int code = connect_stp(fd, *peer);
  if (code != 0 && code != EINPROGRESS && code != EALREADY) say("connect to port %u: %s", peer->port, std::strerror(code));
  return code == 0 ? 0 : no(code);
}

STP_ANSWER(int, shutdown)(int fd, int how) STP_THROWS_NOTHING {
  if (!settings().on || how < SHUT_RD || how > SHUT_RDWR) return real_shutdown(fd, how);
  if ((how == SHUT_RD || marked(fd, Mark::kAlone)) && ours(fd) && int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0) {
    if (unconnected(fd)) return no(ENOTCONN);
    if (how == SHUT_RD) return 0;  // a Unix socket's peer would hear of it; TCP's does not
  }
  ends_in_good_order(fd, how);
  if (how == SHUT_RDWR) ends_itself(fd);
  const int result = real_shutdown(fd, how);
  if (result == 0 && how != SHUT_RD && marked(fd, Mark::kHere)) set_mark(fd, Mark::kEnded, true);
  return result;
}

STP_ANSWER(int, getsockname)(int fd, sockaddr* __restrict address, socklen_t* __restrict length) STP_THROWS_NOTHING {
  if (!settings().on || !is_room(address, length)) return real_getsockname(fd, address, length);
  const auto name = name_of(fd);
  if (!name && !connecting(fd)) return name_of_tcp(fd, address, length);
  // One that connects has no port yet that is known here.
  const NetAddress local = name ? name->local : NetAddress{};
  to_sockaddr(name && name->kind != SocketName::Kind::kFailed ? local : NetAddress{first_storage().own_ip, local.port}, is_v6(fd), address, length);
  return 0;
}

STP_ANSWER(int, getpeername)(int fd, sockaddr* __restrict address, socklen_t* __restrict length) STP_THROWS_NOTHING {
  if (!settings().on || address == nullptr || length == nullptr) return real_getpeername(fd, address, length);
  const auto name = name_of(fd);
  if (!name) return connecting(fd) ? no(ENOTCONN) : peer_of_tcp(fd, address, length);
  if (name->kind == SocketName::Kind::kFailed) return no(ENOTCONN);
  const auto peer = name->kind == SocketName::Kind::kConnected ? std::optional(name->peer) : accepted_from(fd);
  if (!peer) return no(ENOTCONN);
  if (!is_room(address, length)) return no(EINVAL);
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
  const bool to_read = level == SOL_SOCKET && (option == SO_ERROR || option == SO_DOMAIN || option == SO_PROTOCOL);
  if (!settings().on || to_read || !answers_option(level, option) || !ours(fd)) return real_setsockopt(fd, level, option, value, length);
  const bool takes_text = option == TCP_CONGESTION || option == TCP_ULP || option == TCP_FASTOPEN_KEY;
  if (level == IPPROTO_TCP && !takes_text && length < sizeof(int)) return no(EINVAL);
  if (level == IPPROTO_TCP && value == nullptr) return no(EFAULT);
  if (level != SOL_SOCKET && !exists(level, option)) return no(ENOPROTOOPT);
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

STP_ANSWER(int, close)(int fd) {
  let_go(fd);
  end_marks(fd);
  return real_close(fd);
}

STP_ANSWER(int, dup)(int fd) STP_THROWS_NOTHING {
  const int copy = real_dup(fd);
  note_copy(fd, copy);
  follow_close_on_exec(copy);
  return copy;
}

STP_ANSWER(int, dup2)(int fd, int number) STP_THROWS_NOTHING {
  if (fd != number) let_go(number);
  const int copy = real_dup2(fd, number);
  note_copy(fd, copy);
  follow_close_on_exec(copy);
  return copy;
}

STP_ANSWER(int, dup3)(int fd, int number, int flags) STP_THROWS_NOTHING {
  if (fd != number) let_go(number);
  const int copy = real_dup3(fd, number, flags);
  note_copy(fd, copy);
  follow_close_on_exec(copy);
  return copy;
}

// fcntl has two names, of which <fcntl.h> may make the one mean the other. Whatever comes behind the command, or the request, is one word, or nothing.
#ifdef STP_BSD_NAMES
#define STP_SYMBOL(name) "STPbsd_" #name
#else
#define STP_SYMBOL(name) #name
#endif
__attribute__((visibility("default"))) int answer_fcntl(int fd, int command, ...) __asm__(STP_SYMBOL(fcntl));
__attribute__((visibility("default"))) int answer_fcntl64(int fd, int command, ...) __asm__(STP_SYMBOL(fcntl64));
__attribute__((visibility("default"))) int answer_ioctl(int fd, unsigned long request, ...) __asm__(STP_SYMBOL(ioctl));

int answer_fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void* const word = va_arg(list, void*);
  va_end(list);
  const int result = real_fcntl(fd, command, word);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) note_copy(fd, result);
  if (command == F_SETFD || command == F_DUPFD || command == F_DUPFD_CLOEXEC) follow_close_on_exec(command == F_SETFD ? fd : result);
  return result;
}

int answer_fcntl64(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void* const word = va_arg(list, void*);
  va_end(list);
  return answer_fcntl(fd, command, word);
}

int answer_ioctl(int fd, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void* const word = va_arg(list, void*);
  va_end(list);
  const int result = real_ioctl(fd, request, word);
  if (request == FIOCLEX || request == FIONCLEX) follow_close_on_exec(fd);
  return result;
}

}  // extern "C"
