// The rival of a small request and reply: two processes, each with one O_DIRECT block of its own that the other one reads
// in a loop; blocking pwrite and pread, nothing else. What a hand-made mailbox on the same storage would do.
// Each process keeps to its own half of the processors (own_processors.h).
//
// Forks: to be called from a program that runs no threads at that moment.
#pragma once

#include <vector>

#include "tools/raw_queue.h"

namespace stp {

// Round-trip times in microseconds, in the order they happened, over about `duration`.
Result<std::vector<double>> raw_pingpong(const RawRange& range, std::size_t block_bytes, std::chrono::milliseconds duration);

}  // namespace stp
