// STPconnect.
#include <algorithm>
#include <cerrno>

#include "hostlib/address.h"
#include "hostlib/call.h"
#include "hostlib/deadline.h"
#include "hostlib/own_address.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

constexpr Nanos kShortestLook = 100 * kMillisecond;
constexpr Nanos kLongestLook = kSecond;
constexpr Nanos kLookAgain = 10 * kMillisecond;

// Gives up a connect that the program's own timeout ended: the engine's socket is exchanged for a fresh one on the same port.
int give_up(Call& call, const Address& peer) {
  Socket& socket = call.socket();
  const Nanos now = boottime_now();
  const auto fresh = call.sockets().open(now);
  if (!fresh) return call.fail({ETIMEDOUT, Reason::kSilent}, &peer);
  const SocketId old = socket.id;
  call.runtime().table().change_id(socket, *fresh);
  call.sockets().close(old, true, now);
  call.host().forget(old);
  if (socket.bound_port != 0) (void)call.sockets().bind(*fresh, socket.bound_port);
  if (socket.send_buffer_bytes != 0) call.sockets().set_send_buffer(*fresh, static_cast<std::uint32_t>(socket.send_buffer_bytes));
  if (socket.receive_buffer_bytes != 0) call.sockets().set_receive_window(*fresh, static_cast<std::uint32_t>(socket.receive_buffer_bytes));
  socket.connect_pending = false;
  call.waiting().step(now);
  return call.fail({ETIMEDOUT, Reason::kSilent}, &peer);
}

// Until the connect that is under way has ended. How it ended is in `error` (0: well). False when the call ended before
// that: `result` is what it gives.
bool wait_for_end(Call& call, const Address& peer, SocketError& error, int& result) {
  Socket& socket = call.socket();
  const Nanos now = boottime_now();
  const Nanos mine = socket.connect_timeout_ms != 0 ? after(now, socket.connect_timeout_ms * kMillisecond) : kNever;
  const Nanos sending = socket.send_timeout != 0 ? after(now, socket.send_timeout) : kNever;
  for (;;) {
    if (call.sockets().connect_ended(socket.id)) break;
    const int code = call.wait(Ready::kConnect, std::min(mine, sending));
    if (code == 0) continue;
    if (code == EAGAIN)
      result = mine <= sending ? give_up(call, peer) : call.fail_quietly(EINPROGRESS);
    else
      result = call.fail(code);  // EINTR: it goes on by itself
    return false;
  }
  socket.connect_pending = false;
  error = call.sockets().take_error(socket.id);
  return true;
}

// Not so a host that answered and then died, before this thread saw the answer: that socket was connected, and does not connect again.
bool may_just_have_come(const SocketError& error) {
  if (error.code == ECONNRESET) return false;
  return error.reason == Reason::kUnknownHost || error.reason == Reason::kHostDead || error.reason == Reason::kHostLeft;
}

// A blocking connect. Leases are read once in an observation period; whoever starts a server, or starts it again, and connects
// to it does not want to know: where the host seems not to be there, has the leases read now, and tries until one such period is over.
int connect_and_wait(Call& call, const Address& peer) {
  const auto period = static_cast<Nanos>(call.host().superblock().timing.observe_ms) * kMillisecond;
  const Nanos deadline = after(boottime_now(), std::clamp(period, kShortestLook, kLongestLook));
  for (;;) {
    Socket& socket = call.socket();
    const auto connected = call.sockets().connect(socket.id, peer, socket.connect_waits_accept, boottime_now());
    call.waiting().step(boottime_now());
    SocketError error = connected ? SocketError{} : connected.error();
    if (error.code == EINPROGRESS) {
      socket.connect_pending = true;
      int result = 0;
      if (!wait_for_end(call, peer, error, result)) return result;
    }
    if (error.code == 0) return 0;
    call.sockets().renew(socket.id);
    if (!may_just_have_come(error) || boottime_now() >= deadline) return call.fail(error, &peer);
    call.host().look_at_leases_now();
    (void)call.waiting().wait(call.lock(), nullptr, 0, after(boottime_now(), kLookAgain));
    if (socket.closed) return call.fail(EBADF);
  }
}

// Who is told by connect itself has a socket as before.
int fail_and_renew(Call& call, const SocketError& error, const Address& peer) {
  const int result = call.fail(error, &peer);
  call.sockets().renew(call.socket().id);
  return result;
}

// What became of a connect that an earlier call began.
int ask_again(Call& call, const Address& peer) {
  Socket& socket = call.socket();
  call.waiting().step(boottime_now());
  const auto info = call.sockets().info(socket.id);
  SocketError error;
  if (info && (info->ready & Ready::kConnect) == 0) {
    if (socket.nonblocking) return call.fail_quietly(EALREADY);
    int result = 0;
    if (!wait_for_end(call, peer, error, result)) return result;
    return error.code != 0 ? fail_and_renew(call, error, peer) : 0;
  }
  socket.connect_pending = false;
  error = call.sockets().take_error(socket.id);
  if (error.code == 0 && (!info || info->state == ScbState::kClosed)) error = {ECONNABORTED, Reason::kNone};  // another call told why
  return error.code != 0 ? fail_and_renew(call, error, peer) : 0;  // as Linux, the first time
}

// What a socket says that can not connect any more, whereto ever. 0: it can.
int never_again(Call& call) {
  const auto tried = call.sockets().connect(call.socket().id, Address{}, false, boottime_now());  // port 0: nobody is asked
  return tried || tried.error().code == ECONNREFUSED ? 0 : tried.error().code;
}

int connect_socket(Call& call, std::expected<Address, int> wanted) {
  Socket& socket = call.socket();
  if (socket.connect_pending) return ask_again(call, wanted.value_or(Address{}));
  if (const int code = never_again(call); code != 0) return call.fail(code);
  if (!wanted) return call.fail(wanted.error());
  Address& peer = *wanted;
  if (const SocketError error = complete_peer(peer, call.host()); error.code != 0) return call.fail(error, &peer);
  if (!socket.nonblocking) return connect_and_wait(call, peer);
  const auto connected = call.sockets().connect(socket.id, peer, socket.connect_waits_accept, boottime_now());
  call.waiting().step(boottime_now());
  if (connected) return 0;
  if (connected.error().code != EINPROGRESS) return call.fail(connected.error(), &peer);
  socket.connect_pending = true;
  return call.fail_quietly(EINPROGRESS);
}

}  // namespace
}  // namespace stp::host

int STPconnect(int s, const struct sockaddr* address, socklen_t length) {
  stp::host::Call call("connect to", s, stp::host::Call::Check::kDescriptor);
  if (!call.good()) return -1;
  const auto peer = stp::host::address_from(address, length);
  // What is no memory, and no address of any family, is said before the socket is looked at.
  if (!peer && (peer.error() == EFAULT || length < sizeof(sa_family_t) || length > sizeof(struct sockaddr_storage))) return call.fail(peer.error());
  return stp::host::connect_socket(call, peer);
}
