// Raw O_DIRECT I/O for the rivals of `stp bench`: a few requests deep on one range of a file or device, with
// nothing of STP in it. io_uring, or one thread a request where io_uring is not allowed.
//
// One RawQueue belongs to one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "stp/error.h"

namespace stp {

// Bytes that nobody else uses; offset and length are multiples of 1 MiB.
struct RawRange {
  std::string path;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

class RawQueue {
 public:
  virtual ~RawQueue() = default;
  // `depth` requests at most may be in flight. Fails in words when the range can not be opened with O_DIRECT.
  static Result<std::unique_ptr<RawQueue>> open(const RawRange& range, unsigned depth);

  // Buffer and at are aligned to 4096; `at` counts from the start of the range; token comes back.
  virtual void read(std::uint64_t at, std::byte* into, std::size_t size, unsigned token) = 0;
  virtual void write(std::uint64_t at, const std::byte* from, std::size_t size, unsigned token) = 0;
  // One completion; waits for it up to `timeout`. A failed or short transfer gives a negative errno.
  struct Done {
    enum class State : std::uint8_t { kNothing, kDone } state = State::kNothing;
    unsigned token = 0;
    int error = 0;
  };
  virtual Done wait(std::chrono::nanoseconds timeout) = 0;
};

}  // namespace stp
