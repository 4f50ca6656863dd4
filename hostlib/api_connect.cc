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

// Gives up a connect that the program's own timeout ended: the engine's socket is exchanged for a fresh one on the same port.
int give_up(Call& call, const Address& peer) {
  Socket& socket = call.socket();
  const Nanos now = boottime_now();
  const auto fresh = call.engine().open(now);
  if (!fresh) return call.fail({ETIMEDOUT, Reason::kSilent}, &peer);
  const SocketId old = socket.id;
  call.runtime().table().change_id(socket, *fresh);
  call.engine().close(old, true, now);
  if (socket.bound_port != 0) (void)call.engine().bind(*fresh, socket.bound_port);
  if (socket.send_buffer_bytes != 0) call.engine().set_send_buffer(*fresh, static_cast<std::uint32_t>(socket.send_buffer_bytes));
  if (socket.receive_buffer_bytes != 0) call.engine().set_receive_window(*fresh, static_cast<std::uint32_t>(socket.receive_buffer_bytes));
  socket.connect_pending = false;
  call.driving().step(now);
  return call.fail({ETIMEDOUT, Reason::kSilent}, &peer);
}

int wait_for_connection(Call& call, const Address& peer) {
  Socket& socket = call.socket();
  const Nanos now = boottime_now();
  const Nanos mine = socket.connect_timeout_ms != 0 ? after(now, socket.connect_timeout_ms * kMillisecond) : kNever;
  const Nanos sending = socket.send_timeout != 0 ? after(now, socket.send_timeout) : kNever;
  for (;;) {
    const auto info = call.engine().info(socket.id);
    if (!info) return call.fail(info.error(), &peer);
    if ((info->ready & Ready::kConnect) != 0) break;
    const int code = call.wait(Ready::kConnect, std::min(mine, sending));
    if (code == EAGAIN) return mine <= sending ? give_up(call, peer) : call.fail_quietly(EINPROGRESS);
    if (code != 0) return call.fail(code);  // EINTR: it goes on by itself
  }
  socket.connect_pending = false;
  const SocketError error = call.engine().take_error(socket.id);
  return error.code != 0 ? call.fail(error, &peer) : 0;
}

int connect_socket(Call& call, Address peer) {
  if (const SocketError error = complete_peer(peer, call.host()); error.code != 0) return call.fail(error, &peer);
  Socket& socket = call.socket();
  const Nanos now = boottime_now();
  if (socket.connect_pending) {  // began by an earlier call: how did it end?
    call.driving().step(now);
    const auto info = call.engine().info(socket.id);
    const bool goes_on = info && (info->ready & Ready::kConnect) == 0;
    if (goes_on) return socket.nonblocking ? call.fail_quietly(EALREADY) : wait_for_connection(call, peer);
    socket.connect_pending = false;
    if (const SocketError error = call.engine().take_error(socket.id); error.code != 0) return call.fail(error, &peer);
    return call.fail(EISCONN);
  }
  const auto connected = call.engine().connect(socket.id, peer, socket.connect_waits_accept, now);
  call.driving().step(now);
  if (connected) return 0;
  if (connected.error().code != EINPROGRESS) return call.fail(connected.error(), &peer);
  socket.connect_pending = true;
  return socket.nonblocking ? call.fail_quietly(EINPROGRESS) : wait_for_connection(call, peer);
}

}  // namespace
}  // namespace stp::host

int STPconnect(int s, const struct sockaddr* address, socklen_t length) {
  stp::host::Call call("connect to", s, stp::host::Call::Check::kDescriptor);
  if (!call.good()) return -1;
  const auto peer = stp::host::address_from(address, length);
  if (!peer) return call.fail(peer.error());
  return stp::host::connect_socket(call, *peer);
}
