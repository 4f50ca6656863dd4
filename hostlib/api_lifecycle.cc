// STPsocket, STPbind, STPlisten, STPaccept, STPaccept4, STPshutdown, STPclose.
#include <fmt/format.h>
#include <fcntl.h>
#include <limits.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hostlib/address.h"
#include "hostlib/call.h"
#include "hostlib/deadline.h"
#include "hostlib/fork_guard.h"
#include "hostlib/install_socket.h"
#include "hostlib/own_address.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

int make_socket(Call& call, int flags) {
  auto host = call.runtime().join(call.lock());
  if (!host) {
    const Error& error = host.error();
    return call.fail(error.code, Reason::kNotJoined, fmt::format("{}: {}", "join", error.text));
  }
  const auto id = (*host)->sockets().open(boottime_now());
  if (!id) return call.fail(id.error());
  auto socket = std::make_shared<Socket>();
  socket->id = *id;
  const auto fd = install_socket(call.runtime(), socket, flags);
  if (!fd) {
    (*host)->sockets().close(*id, true, boottime_now());
    (*host)->forget(*id);
    return call.fail(fd.error());
  }
  return *fd;
}

// What a listener's options hand on to the sockets that it accepts.
std::shared_ptr<Socket> heir_of(const Socket& listener, SocketId id) {
  auto socket = std::make_shared<Socket>();
  socket->id = id;
  socket->bound_port = listener.bound_port;
  socket->send_timeout = listener.send_timeout;
  socket->receive_timeout = listener.receive_timeout;
  socket->linger = listener.linger;
  socket->linger_s = listener.linger_s;
  socket->keep_alive = listener.keep_alive;
  socket->reuse_address = listener.reuse_address;
  socket->send_buffer_bytes = listener.send_buffer_bytes;
  socket->receive_buffer_bytes = listener.receive_buffer_bytes;
  return socket;
}

SocketResult<SocketId> next_connection(Call& call) {
  auto& unclaimed = call.socket().unclaimed;
  if (!unclaimed.empty()) {
    const SocketId id = unclaimed.front();
    unclaimed.erase(unclaimed.begin());
    return id;
  }
  const Nanos now = boottime_now();
  auto id = call.sockets().accept(call.socket().id, now);
  if (id || call.socket().nonblocking) call.waiting().step(now);
  if (!id && id.error().code == EAGAIN && call.socket().nonblocking) id = call.sockets().accept(call.socket().id, now);
  return id;
}

int accept_connection(Call& call, struct sockaddr* address, socklen_t* length, int flags) {
  Socket& listener = call.socket();
  const Nanos deadline = listener.receive_timeout != 0 ? after(boottime_now(), listener.receive_timeout) : kNever;
  for (;;) {
    const auto id = next_connection(call);
    if (id) {
      auto socket = heir_of(listener, *id);
      const auto fd = install_socket(call.runtime(), socket, flags);
      if (!fd) {
        listener.unclaimed.push_back(*id);  // it keeps its place until a descriptor is free
        return call.fail(fd.error());
      }
      if (socket->send_buffer_bytes != 0) call.sockets().set_send_buffer(*id, static_cast<std::uint32_t>(socket->send_buffer_bytes));
      if (address != nullptr) {
        const auto info = call.sockets().info(*id);
        (void)store_address(with_stg(info ? info->peer : Address{}, call.host()), address, length);
      }
      return *fd;
    }
    if (id.error().code != EAGAIN) return call.fail(id.error());
    if (listener.nonblocking) return call.fail_quietly(EAGAIN);
    if (const int code = call.wait(Ready::kRead, deadline); code != 0) return call.fail(code);
  }
}

// The peer's address has no place to go to. The connection stays in the queue, where the kernel would lose it.
int refuse_room(Call& call, int code) {
  Socket& listener = call.socket();
  if (!listener.listening) return call.fail(EINVAL);
  const auto info = call.sockets().info(listener.id);
  const bool queued = !listener.unclaimed.empty() || (info && (info->ready & Ready::kRead) != 0);
  return listener.nonblocking && !queued ? call.fail_quietly(EAGAIN) : call.fail(code);
}

void abort_unclaimed(Call& call, Socket& listener, Nanos now) {
  for (const SocketId id : listener.unclaimed) {
    call.sockets().close(id, true, now);
    call.host().forget(id);
  }
  listener.unclaimed.clear();
}

// Waits until everything was acknowledged. 0 or an errno.
int linger_on(Call& call, Socket& socket) {
  const Nanos span = socket.linger ? socket.linger_s * kSecond : call.host().patience();
  const Nanos deadline = after(boottime_now(), span);
  while (call.sockets().closing(socket.id)) {
    const Woken woken = call.waiting().wait(call.lock(), &socket, Ready::kDrained, deadline);
    if (woken == Woken::kTimeout && call.sockets().closing(socket.id)) return ETIMEDOUT;
    if (woken == Woken::kInterrupted) return EINTR;
  }
  return 0;
}

int close_socket(Call& call) {
  Runtime& runtime = call.runtime();
  const bool ours = runtime.table().still_ours(call.number());
  const std::shared_ptr<Socket> socket = runtime.table().remove(call.number());
  if (socket->gone != Reason::kNone) return 0;
  call.waiting().ready(*socket, ~Ready::kDrained);  // other threads that wait on it
  const Nanos now = boottime_now();
  const Address peer = call.sockets().peer(socket->id);
  const bool abort = socket->linger && socket->linger_s == 0;
  abort_unclaimed(call, *socket, now);
  call.sockets().close(socket->id, abort, now);
  call.waiting().step(now);
  int code = 0;
  SocketError error;
  if (ours && !abort && !socket->nonblocking && !socket->listening) {
    code = linger_on(call, *socket);
    error = call.sockets().take_error(socket->id);
    if (code == 0 && error.code == 0 && socket->lost) error = {ECONNRESET, Reason::kClosed};
  }
  runtime.forget(*socket);
  if (!ours) {
    return call.fail(EBADF, Reason::kNone,
                     fmt::format("close socket {}: its descriptor was closed by other means than STPclose", call.number()));
  }
  const Address* const named = peer.host.empty() ? nullptr : &peer;
  if (error.code != 0) return call.fail(error, named);
  if (code == ETIMEDOUT) return call.fail({ETIMEDOUT, Reason::kSilent}, named);
  return code != 0 ? call.fail(code) : 0;
}

}  // namespace
}  // namespace stp::host

using stp::Reason;
using stp::host::Call;

int STPsocket(int domain, int type, int protocol) {
  Call call("make a socket");
  if (!call.good()) return -1;
  constexpr int kTypes = 0xf;  // as in the kernel: the other bits are flags
  if ((type & ~kTypes & ~stp::host::kSocketFlags) != 0 || (type & kTypes) > SOCK_PACKET) return call.fail(EINVAL);
  if (domain != AF_STP) return call.fail(EAFNOSUPPORT);
  if ((type & kTypes) != SOCK_STREAM) return call.fail(ESOCKTNOSUPPORT);
  if (protocol != 0 && protocol != PF_STP) return call.fail(EPROTONOSUPPORT);
  return stp::host::make_socket(call, type & stp::host::kSocketFlags);
}

int STPbind(int s, const struct sockaddr* address, socklen_t length) {
  Call call("bind", s, Call::Check::kDescriptor);
  if (!call.good()) return -1;
  const auto wanted = stp::host::address_from(address, length);
  if (!wanted) return call.fail(wanted.error());
  if (const auto error = stp::host::check_own(*wanted, call.host()); error.code != 0) return call.fail(error, &*wanted);
  const auto port = call.sockets().bind(call.socket().id, wanted->port);
  if (!port) return call.fail(port.error(), &*wanted);
  call.socket().bound_port = *port;
  call.waiting().step(stp::boottime_now());
  return 0;
}

int STPlisten(int s, int backlog) {
  Call call("listen on", s, Call::Check::kDescriptor);
  if (!call.good()) return -1;
  constexpr int kMost = 4096;  // a negative one asks for that, as of the kernel
  const auto listening = call.sockets().listen(call.socket().id, static_cast<std::uint32_t>(backlog < 0 ? kMost : std::clamp(backlog, 1, kMost)));
  if (!listening) return call.fail(listening.error());
  call.socket().listening = true;
  call.waiting().step(stp::boottime_now());
  return 0;
}

int STPaccept(int s, struct sockaddr* address, socklen_t* length) { return STPaccept4(s, address, length, 0); }

int STPaccept4(int s, struct sockaddr* address, socklen_t* length, int flags) {
  Call call("accept on", s, Call::Check::kDescriptor);
  if (!call.good()) return -1;
  if ((flags & ~stp::host::kSocketFlags) != 0) return call.fail(EINVAL);
  if (address != nullptr && (length == nullptr || *length > INT_MAX)) return stp::host::refuse_room(call, length == nullptr ? EFAULT : EINVAL);
  return stp::host::accept_connection(call, address, length, flags);
}

int STPshutdown(int s, int how) {
  Call call("shut down", s, Call::Check::kDescriptor);
  if (!call.good()) return -1;
  if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) return call.fail(EINVAL);
  const stp::Nanos now = stp::boottime_now();
  const auto shut = call.sockets().shut(call.socket().id, how != SHUT_WR, how != SHUT_RD, now);
  if (!shut) return call.fail(shut.error());
  call.socket().connect_pending = false;
  call.waiting().ready(call.socket(), stp::Ready::kRead | stp::Ready::kWrite);
  call.waiting().step(now);
  return 0;
}

int STPclose(int s) {
  Call call("close", s, Call::Check::kClose);
  if (!call.good()) {
    // At the end of the program everything was closed already, and waited for.
    if (errno == ENETDOWN && !stp::host::forked()) return 0;
    return -1;
  }
  return stp::host::close_socket(call);
}
