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

#include "stp/lent_memory.h"
#include "stp/medium.h"
#include "stp/membership_board.h"
#include "stp/names.h"
#include "stp/random.h"
#include "stp/reason.h"
#include "stp/scb.h"
#include "stp/socket_calls.h"
#include "stp/superblock.h"

namespace stp {

struct EngineConfig {
  Superblock superblock;
  std::uint32_t pid = 0;                          // display only
  std::uint64_t receive_budget_bytes = 256u << 20;  // all sockets' receive memory
  std::uint64_t send_budget_bytes = 256u << 20;
  std::uint32_t window_bytes = 8u << 20;          // most receive memory of one socket
  std::uint32_t send_buffer_bytes = 8u << 20;     // most unacknowledged bytes of one socket
  std::uint32_t inline_max_bytes = 16 * 1024;     // up to this much travels in packets, more in extents
  Nanos poll_max = 12 * kMillisecond;             // slowest look at the gates
  bool answers_from_afar = false;                 // programs answer through another process: how long that takes is learned
  bool evict_received = false;                    // buffers of extents that were taken leave the processor's caches
  std::uint32_t long_line = 128;                  // sockets that wait for a packet: from more of them on waits_in_line() says so
  Nanos connect_timeout = 0;                      // 0: twice the detection bound
  std::uint64_t wall_clock_ms = 0;                // milliseconds since 1970 at boottime 0 (display only)
};

// A conversation between two programs of this host whose bytes take a shorter way than the engine's.
struct LocalConversation {
  enum class State : std::uint8_t { kQueued, kEstablished, kClosing };
  std::uint16_t port = 0;
  std::uint16_t peer_port = 0;
  bool initiator = false;
  State state = State::kEstablished;
};

// Counters of named faults and of traffic, for `STP_DEBUG`, tests and the bench.
struct EngineCounters {
  std::uint64_t reads = 0, writes = 0, read_bytes = 0, write_bytes = 0;
  std::uint64_t packets_sent = 0, packets_taken = 0, messages_sent = 0, messages_taken = 0;
  std::uint64_t gates_written = 0, extents_sent = 0, extents_taken = 0;
  std::uint64_t io_errors = 0, packets_rewritten = 0, extents_renewed = 0;
  std::uint64_t extents_lent = 0, extents_landed = 0;  // written from, and read to, where programs have their bytes
  std::uint64_t damaged_packets = 0, damaged_gates = 0, damaged_extents = 0;
  std::uint64_t protocol_faults = 0, unknown_messages = 0, resets_sent = 0, resets_taken = 0;
  std::uint64_t extents_held = 0, send_memory_bytes = 0, receive_memory_bytes = 0;  // now
};

class Engine final : public SocketCalls {
 public:
  Engine(const EngineConfig& config, Medium& medium, MembershipBoard& board, Random& random, EngineEvents& events);
  ~Engine() override;

  // Takes completions and everything that is due, submits and flushes. Returns when to be called again at the
  // latest. Also call it after any of the calls below that returned data to send (they only queue).
  Nanos step(Nanos now);
  // Nothing in flight on the medium and nothing accepted but unacknowledged: leaving now loses nothing. After shut_down() also: all
  // peers have acknowledged what was said, which takes as long as they do (whoever waits does so for a bounded time).
  bool drained() const;
  // Resets all sockets and submits nothing more but what is needed to say so; with drained() and the board a clean exit.
  void shut_down(Nanos now);
  // While true, a wait on the medium should spin: an answer is expected within microseconds.
  bool expects_soon(Nanos now) const;

  // -- Sockets: see SocketCalls
  SocketResult<SocketId> open(Nanos now) override;
  SocketResult<std::uint16_t> bind(SocketId socket, std::uint16_t port) override;
  SocketResult<void> listen(SocketId socket, std::uint32_t backlog) override;
  SocketResult<SocketId> accept(SocketId listener, Nanos now) override;
  SocketResult<void> connect(SocketId socket, const Address& peer, bool wait_for_accept, Nanos now) override;
  SocketResult<std::size_t> send(SocketId socket, ConstBytes data, Nanos now) override;
  SocketResult<std::size_t> receive(SocketId socket, Bytes into, bool peek, Nanos now) override;
  SocketResult<void> shut(SocketId socket, bool read, bool write, Nanos now) override;
  void close(SocketId socket, bool abort, Nanos now) override;
  // Ahead of a close: its program has ended already, and what was received last, or comes now, is dropped, as the peer is to learn.
  // left_unread: receive() gave something that lies where the program has not taken it, and will not.
  void stop_reading(SocketId socket, bool left_unread, Nanos now);
  bool closing(SocketId socket) const override;
  SocketResult<SocketInfo> info(SocketId socket) const override;
  Address peer(SocketId socket) const override;
  bool connect_ended(SocketId socket) const override;
  SocketResult<std::uint32_t> ready(SocketId socket) override;
  SocketError take_error(SocketId socket) override;
  void renew(SocketId socket) override;
  void set_send_buffer(SocketId socket, std::uint32_t bytes) override;
  void set_receive_window(SocketId socket, std::uint32_t bytes) override;
  void set_inline_max(std::uint32_t bytes) override;
  void set_poll_max(Nanos period) override;
  // send() and receive() without copies of bulk data. What send_lent() took may still be read: of the bytes taken so far, the last lent(),
  // which are not to be changed before on_ready() tells of Ready::kReturned and lent() has become less. What send_lent() did not take, which
  // may be all, is to be given again then. Memory at multiples of kBufferAlignment and of an extent serves best. Where the loan is too small
  // for the device to be kept busy, bytes are copied. A socket that is over tells nothing more: its memory is free when nobody holds the keeper.
  SocketResult<std::size_t> send_lent(SocketId socket, ConstBytes data, const Loan& loan, Nanos now);
  std::uint64_t lent(SocketId socket) const;
  // What was sent before stands in line for a packet, behind many others: more of it now would be a small piece more there. Later it is one
  // piece with what came meanwhile. on_ready() tells Ready::kWrite when it has left, room or not.
  bool waits_in_line(SocketId socket);
  // From now on extents may be read to where `landing` says; receive() must then be called with that very memory.
  void land_in(SocketId socket, std::shared_ptr<Landing> landing);
  // A socket that is to do nothing but to be shown; refused when not many are left.
  SocketResult<SocketId> open_to_show(Nanos now);
  // Shows a socket that the engine knows as unconnected in the socket table on the disk as one end of such a conversation (its
  // counts of bytes stay 0).
  void show(SocketId socket, const LocalConversation& conversation);

  EngineCounters counters() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stp
