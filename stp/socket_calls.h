// What a program can do with sockets, non-blocking, with BSD semantics: the engine does it on the storage itself, or an agent does
// it for the program. hostlib adds blocking, descriptors and timeouts. All calls under one lock (the caller's), one
// thread at a time.
//
// Errors are errno values with a Reason; EAGAIN and EINPROGRESS are errors like others.
#pragma once

#include <cerrno>
#include <functional>
#include <string_view>

#include "stp/bytes.h"
#include "stp/names.h"
#include "stp/reason.h"
#include "stp/scb.h"
#include "stp/timing.h"

namespace stp {

using SocketId = std::uint32_t;  // never reused while the engine lives, except after 2^32 sockets

struct SocketError {
  int code = 0;
  Reason reason = Reason::kNone;
};
template <class T>
using SocketResult = std::expected<T, SocketError>;
inline std::unexpected<SocketError> no(int code, Reason reason = Reason::kNone) { return std::unexpected(SocketError{code, reason}); }

// What a socket is ready for; the same bits as readiness and as notification.
struct Ready {
  static constexpr std::uint32_t kRead = 1;     // recv or accept would not give EAGAIN
  static constexpr std::uint32_t kWrite = 2;    // send would take at least one byte, or fail at once
  static constexpr std::uint32_t kConnect = 4;  // connect has ended, well or not
  static constexpr std::uint32_t kHangUp = 8;   // both directions are over, or an error is pending
  static constexpr std::uint32_t kDrained = 16; // close() has ended; together with kHangUp: not everything was acknowledged
  // Only as a notification.
  static constexpr std::uint32_t kReturned = 128;  // what was lent to the engine came back, see Engine::send_lent()
  // Only from ready().
  static constexpr std::uint32_t kError = 32;      // take_error() would give one
  static constexpr std::uint32_t kPeerEnded = 64;  // everything that the peer will ever send, or that is still wanted of it, is here
};

// Called from inside engine calls and step(); must not call back into the engine.
class EngineEvents {
 public:
  virtual ~EngineEvents() = default;
  // Some of these bits may have become true. Spurious calls are fine; lost ones are not.
  virtual void on_ready(SocketId socket, std::uint32_t bits) = 0;
};

struct SocketInfo {
  ScbState state = ScbState::kUnbound;
  std::uint32_t scb = 0;         // SCB number
  std::uint32_t ready = 0;       // Ready bits, level
  Address local, peer;           // peer.host is empty when not connected
  SocketError error;             // pending (SO_ERROR), not cleared by looking
  std::uint64_t readable_bytes = 0;   // FIONREAD
  std::uint64_t unacknowledged_bytes = 0;  // SIOCOUTQ
};

class SocketCalls {
 public:
  virtual ~SocketCalls() = default;
  // Whether `now` is looked at: a look at the clock costs as much as a small send through shared memory.
  virtual bool wants_time() const { return true; }

  virtual SocketResult<SocketId> open(Nanos now) = 0;                                   // ENFILE when the SCB table is full
  virtual SocketResult<std::uint16_t> bind(SocketId socket, std::uint16_t port) = 0;    // 0 = a free one; EADDRINUSE, EINVAL when bound
  // Sockets sharing a port by SO_REUSEADDR need no call: a closed socket's port is free at once.
  virtual SocketResult<void> listen(SocketId socket, std::uint32_t backlog) = 0;
  // EAGAIN, EINVAL when not listening. The new socket's peer is in info().
  virtual SocketResult<SocketId> accept(SocketId listener, Nanos now) = 0;
  // EINPROGRESS; kConnect tells the end, result in info().error / take_error(). peer.host may be a base name: then all
  // its living instances are asked in order. EISCONN, EALREADY, ENETDOWN, EHOSTUNREACH, EHOSTDOWN at once.
  virtual SocketResult<void> connect(SocketId socket, const Address& peer, bool wait_for_accept, Nanos now) = 0;
  virtual bool connect_ended(SocketId socket) const = 0;  // well or not; also when there is no such socket
  // How many bytes were taken (>= 1); EAGAIN, EPIPE, ENOTCONN, ECONNRESET, ...
  virtual SocketResult<std::size_t> send(SocketId socket, ConstBytes data, Nanos now) = 0;
  // How many bytes were given; 0 is EOF.
  virtual SocketResult<std::size_t> receive(SocketId socket, Bytes into, bool peek, Nanos now) = 0;
  // send() and receive() without a buffer in between, where the bytes have a place that can be shown: `fill` puts bytes there and says how
  // many, `take` says how many it took of those that are there. Either is called once, or not at all. 0 of fill's is nothing sent; when `take` takes
  // nothing that is EAGAIN, and 0 is EOF as ever. EOPNOTSUPP: there is no such place.
  using Fill = std::function<std::size_t(Bytes room)>;
  using Take = std::function<std::size_t(ConstBytes there)>;
  virtual SocketResult<std::size_t> send_in_place(SocketId, std::size_t /*most*/, const Fill&) { return no(EOPNOTSUPP); }
  virtual SocketResult<std::size_t> receive_in_place(SocketId, std::size_t /*most*/, const Take&) { return no(EOPNOTSUPP); }
  virtual SocketResult<void> shut(SocketId socket, bool read, bool write, Nanos now) = 0;
  // The socket is gone for its program; what was accepted goes on until acknowledged, then kDrained. abort: reset at once.
  virtual void close(SocketId socket, bool abort, Nanos now) = 0;
  virtual bool closing(SocketId socket) const = 0;  // closed, not drained yet

  virtual SocketResult<SocketInfo> info(SocketId socket) const = 0;  // EBADF
  // Whom it talks to, or tries to; empty when to nobody. Of a host with several instances perhaps the name they share. Nobody is asked for it.
  virtual Address peer(SocketId socket) const = 0;
  // What it is ready for now; a socket that was never connected is writable and hung up, as BSD's are. That counts as told: on_ready comes
  // for what follows.
  virtual SocketResult<std::uint32_t> ready(SocketId socket) = 0;    // EBADF
  // The same, but nothing need be told of what follows: for whoever does not wait if there is anything.
  virtual SocketResult<std::uint32_t> ready_at_a_glance(SocketId socket) { return ready(socket); }
  virtual SocketError take_error(SocketId socket) = 0;               // SO_ERROR: reads and clears
  // Its connect has failed, and connect itself has told so: the socket is as it was before, but for its port.
  virtual void renew(SocketId socket) = 0;
  virtual void set_send_buffer(SocketId socket, std::uint32_t bytes) = 0;
  virtual void set_receive_window(SocketId socket, std::uint32_t bytes) = 0;
  virtual void set_inline_max(std::uint32_t bytes) = 0;
  virtual void set_poll_max(Nanos period) = 0;
};

}  // namespace stp
