// The engine: sockets of one host over one data storage system. Non-blocking BSD semantics, no threads, no
// descriptors, no clock and no I/O of its own; hostlib adds blocking, descriptors and timeouts, the
// simulator adds faults. All calls under one lock (the caller's), one thread at a time.
//
// Errors are errno values with a Reason; EAGAIN and EINPROGRESS are errors like others.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "stp/medium.h"
#include "stp/membership_board.h"
#include "stp/names.h"
#include "stp/random.h"
#include "stp/reason.h"
#include "stp/scb.h"
#include "stp/superblock.h"

namespace stp {

using SocketId = std::uint32_t;  // never reused while the engine lives, except after 2^32 sockets

struct SocketError {
  int code = 0;
  Reason reason = Reason::kNone;
};
template <class T>
using SocketResult = std::expected<T, SocketError>;

// What a socket is ready for; the same bits as readiness and as notification.
struct Ready {
  static constexpr std::uint32_t kRead = 1;     // recv or accept would not give EAGAIN
  static constexpr std::uint32_t kWrite = 2;    // send would take at least one byte, or fail at once
  static constexpr std::uint32_t kConnect = 4;  // connect has ended, well or not
  static constexpr std::uint32_t kHangUp = 8;   // both directions are over, or an error is pending
  static constexpr std::uint32_t kDrained = 16; // close() has ended; together with kHangUp: not everything was acknowledged
  // Only from ready().
  static constexpr std::uint32_t kError = 32;      // take_error() would give one
  static constexpr std::uint32_t kPeerEnded = 64;  // everything that the peer will ever send has been read
};

// Called from inside engine calls and step(); must not call back into the engine.
class EngineEvents {
 public:
  virtual ~EngineEvents() = default;
  // Some of these bits may have become true. Spurious calls are fine; lost ones are not.
  virtual void on_ready(SocketId socket, std::uint32_t bits) = 0;
};

struct EngineConfig {
  Superblock superblock;
  std::uint32_t pid = 0;                          // display only
  std::uint64_t receive_budget_bytes = 256u << 20;  // all sockets' receive memory
  std::uint64_t send_budget_bytes = 256u << 20;
  std::uint32_t window_bytes = 8u << 20;          // most receive memory of one socket
  std::uint32_t send_buffer_bytes = 8u << 20;     // most unacknowledged bytes of one socket
  std::uint32_t inline_max_bytes = 16 * 1024;     // up to this much travels in packets, more in extents
  Nanos poll_max = 12 * kMillisecond;             // slowest look at the gates
  Nanos connect_timeout = 0;                      // 0: twice the detection bound
  std::uint64_t wall_clock_ms = 0;                // milliseconds since 1970 at boottime 0 (display only)
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

// Counters of named faults and of traffic, for `STP_DEBUG`, tests and the bench.
struct EngineCounters {
  std::uint64_t reads = 0, writes = 0, read_bytes = 0, write_bytes = 0;
  std::uint64_t packets_sent = 0, packets_taken = 0, messages_sent = 0, messages_taken = 0;
  std::uint64_t gates_written = 0, extents_sent = 0, extents_taken = 0;
  std::uint64_t io_errors = 0, packets_rewritten = 0, extents_renewed = 0;
  std::uint64_t damaged_packets = 0, damaged_gates = 0, damaged_extents = 0;
  std::uint64_t protocol_faults = 0, unknown_messages = 0, resets_sent = 0, resets_taken = 0;
};

class Engine {
 public:
  Engine(const EngineConfig& config, Medium& medium, MembershipBoard& board, Random& random, EngineEvents& events);
  ~Engine();

  // Takes completions and everything that is due, submits and flushes. Returns when to be called again at the
  // latest. Also call it after any of the calls below that returned data to send (they only queue).
  Nanos step(Nanos now);
  // Nothing in flight on the medium and nothing accepted but unacknowledged: leaving now loses nothing.
  bool drained() const;
  // Resets all sockets and submits nothing more but what is needed to say so; with drained() and the board a clean exit.
  void shut_down(Nanos now);
  // While true, a wait on the medium should spin: an answer is expected within microseconds.
  bool expects_soon(Nanos now) const;

  // -- Sockets --------------------------------------------------------------------------------------------------
  SocketResult<SocketId> open(Nanos now);                                   // ENFILE when the SCB table is full
  SocketResult<std::uint16_t> bind(SocketId socket, std::uint16_t port);    // 0 = a free one; EADDRINUSE, EINVAL when bound
  // Sockets sharing a port by SO_REUSEADDR need no call: a closed socket's port is free at once.
  SocketResult<void> listen(SocketId socket, std::uint32_t backlog);
  // EAGAIN, EINVAL when not listening. The new socket's peer is in info().
  SocketResult<SocketId> accept(SocketId listener, Nanos now);
  // EINPROGRESS; kConnect tells the end, result in info().error / take_error(). peer.host may be a base name: then all
  // its living instances are asked in order. EISCONN, EALREADY, ENETDOWN, EHOSTUNREACH, EHOSTDOWN at once.
  SocketResult<void> connect(SocketId socket, const Address& peer, bool wait_for_accept, Nanos now);
  // How many bytes were taken (>= 1); EAGAIN, EPIPE, ENOTCONN, ECONNRESET, ...
  SocketResult<std::size_t> send(SocketId socket, ConstBytes data, Nanos now);
  // How many bytes were given; 0 is EOF.
  SocketResult<std::size_t> receive(SocketId socket, Bytes into, bool peek, Nanos now);
  SocketResult<void> shut(SocketId socket, bool read, bool write, Nanos now);
  // The socket is gone for its program; what was accepted goes on until acknowledged, then kDrained. abort: reset at once.
  void close(SocketId socket, bool abort, Nanos now);
  bool closing(SocketId socket) const;  // closed, not drained yet

  SocketResult<SocketInfo> info(SocketId socket) const;  // EBADF
  // What it is ready for now; a socket that was never connected is writable and hung up, as BSD's are. That counts as told: on_ready comes
  // for what follows.
  SocketResult<std::uint32_t> ready(SocketId socket);    // EBADF
  SocketError take_error(SocketId socket);               // SO_ERROR: reads and clears
  void set_send_buffer(SocketId socket, std::uint32_t bytes);
  void set_receive_window(SocketId socket, std::uint32_t bytes);
  void set_inline_max(std::uint32_t bytes);
  void set_poll_max(Nanos period);

  EngineCounters counters() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stp
