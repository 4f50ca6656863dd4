// What the kernel's own sockets do between two programs of this machine: AF_UNIX streams, the rival of programs that share an agent.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "stp/error.h"

namespace stp::tools {

// Bytes a second that arrive when one side sends `send_bytes` at a time. buffer_bytes: SO_SNDBUF and SO_RCVBUF, 0 = the system's default.
Result<double> unix_stream(std::size_t send_bytes, int buffer_bytes, std::chrono::milliseconds duration);
// Round trips of 64 bytes, in microseconds, both sides blocking.
Result<std::vector<double>> unix_pingpong(std::chrono::milliseconds duration);

// Between two looks at the clock, for both: a look costs as much as a small send.
constexpr int sends_between_looks(std::size_t send_bytes) { return send_bytes <= 1024 ? 16 : 1; }
// What the receiver of a stream takes at once, for both: as much as is sent at once, within bounds.
constexpr std::size_t receive_bytes_for(std::size_t send_bytes) { return std::clamp<std::size_t>(send_bytes, 64 * 1024, 256 * 1024); }

}  // namespace stp::tools
