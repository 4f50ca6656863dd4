// Moves bytes both ways at once between a pair of file descriptors and an STP stream, with true half-close: the end of the input ends only
// what is sent, and what the peer still sends is delivered to its end. The body of `stp pipe`.
#pragma once

#include <cstdint>

#include "tools/stream.h"

namespace stp {

struct PipeTotals {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
};

// Returns when both directions ended, the stream is closed and everything sent is in the peer's memory; or on the first failure of either
// direction: kPeerGone (reset, host dead, timeout), kIo (input or output failed; the connection was closed in good order).
//
// `output` is closed as soon as the peer's end arrives, so that whoever reads it sees the end too; `input` is read up to its end. An input
// that is a terminal also ends with the peer's end, as there is nobody left who would listen. With input -1 nothing is sent.
// Writing to a closed `output` must not raise SIGPIPE: the caller ignores it.
Outcome<PipeTotals> pump(Stream stream, int input, int output);

}  // namespace stp
