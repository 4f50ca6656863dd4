// One socket as the program knows it: a descriptor number, the engine's socket behind it, and what only the blocking
// side has to know (timeouts, linger, who waits). All fields under the runtime's lock.
#pragma once

#include <cstdint>
#include <vector>

#include "stp/engine.h"

namespace stp::host {

struct Watch;

// What STPgetpollfd gave: an eventfd that is readable while any of `events` (poll(2)) is true of the socket.
struct PollDescriptor {
  int fd = -1;
  short events = 0;
  bool raised = false;
};

struct Socket {
  Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();

  SocketId id = 0;
  int fd = -1;
  Nanos looked_at_fd = 0;    // when the number was last seen to be ours still
  bool closed = false;       // STPclose was called; threads that still wait on it get EBADF
  Reason gone = Reason::kNone;  // given away, or left with the parent of a fork: only its number is here, and that is why
  bool lost = false;         // it ended and not everything accepted had been acknowledged
  bool nonblocking = false;
  bool listening = false;
  bool connect_pending = false;  // STPconnect began and its result was not told yet
  std::uint16_t bound_port = 0;  // by STPbind, STPlisten or STPgethostname; 0 when the engine chose
  Nanos send_timeout = 0;        // 0: none
  Nanos receive_timeout = 0;
  bool linger = false;           // SO_LINGER
  int linger_s = 0;
  bool reuse_address = false;    // accepted and read back; ports are free at once anyway
  bool keep_alive = false;       // likewise: leases do that
  bool connect_waits_accept = false;
  int connect_timeout_ms = 0;
  int send_buffer_bytes = 0;     // 0: the engine's default
  int receive_buffer_bytes = 0;
  SocketError told_later;        // of a call that moved some bytes first: the next call tells it
  std::vector<SocketId> unclaimed;  // accepted by the engine when the process had no descriptor left for them
  std::vector<PollDescriptor> poll_descriptors;
  Watch* watches = nullptr;      // threads that wait for this socket
};

}  // namespace stp::host
