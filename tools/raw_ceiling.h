// The ceiling of a one-way stream through a storage: the best rate at which one side can write and the other side read
// the same data at the same time, both with O_DIRECT, requests of 256 KiB, 4 deep each. Overdriving the writes starves
// the reads, so the writer is paced, and the best pace is searched for. Each side keeps to its own half of the processors (own_processors.h).
//
// The plain ceiling moves the same few buffers again and again and never looks at a byte. No transport can: its bytes come from a
// program, stay in memory until the other side has confirmed them, are checked there, and go to a program. What that alone costs on
// a machine is said by the ceiling with kCopiedAndHashed.
#pragma once

#include "tools/raw_queue.h"

namespace stp {

class RawCeiling {
 public:
  static constexpr std::size_t kRequestBytes = 256 * 1024;
  static constexpr unsigned kDepth = 4;

  enum class Payload {
    kUntouched,
    kCopiedAndHashed,  // each request: a copy and a hash on either side, out of 8 MiB that the writer keeps
  };

  // `range` is at least 16 MiB; the data goes round in it. `round` is how long one measurement takes.
  RawCeiling(RawRange range, std::chrono::milliseconds round, Payload payload = Payload::kUntouched)
      : range_(std::move(range)), round_(round), payload_(payload) {}

  // Measures the unpaced write alone, then write and read together at a few paces, and keeps the best one.
  Result<void> calibrate();
  // Bytes a second, both written and read, at the best pace known; a neighbour of it is tried too, so that the pace of the
  // next measurement follows a device that changes its mind.
  Result<double> measure();

  // Writes (nobody reads) at `pace` bytes a second, 0 = as fast as it goes; gives the rate.
  Result<double> write_only(double pace) { return run(pace, false); }
  Result<double> write_and_read(double pace) { return run(pace, true); }
  double pace() const { return pace_; }

 private:
  Result<double> run(double pace, bool read);
  RawRange range_;
  std::chrono::milliseconds round_;
  Payload payload_;
  double pace_ = 0;
  unsigned turn_ = 0;
};

}  // namespace stp
