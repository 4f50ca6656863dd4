// Requests with what is to be done at their end. Sits between the engine's parts and the Medium; the engine's thread only.
#pragma once

#include <functional>
#include <vector>

#include "stp/medium.h"

namespace stp {

class IoQueue {
 public:
  using Done = std::function<void(int error)>;  // runs inside reap(); error is 0 or an errno

  explicit IoQueue(Medium& medium) : medium_(medium) {}

  void read(std::uint64_t block, std::uint32_t blocks, std::byte* buffer, Done done) {
    start(IoRequest::Op::kRead, block, blocks, buffer, std::move(done));
  }
  void write(std::uint64_t block, std::uint32_t blocks, const std::byte* buffer, Done done) {
    start(IoRequest::Op::kWrite, block, blocks, const_cast<std::byte*>(buffer), std::move(done));
  }
  // A small write for which a program waits; see Medium::carry_out().
  void write_promptly(std::uint64_t block, std::uint32_t blocks, const std::byte* buffer, Done done) {
    start(IoRequest::Op::kWrite, block, blocks, const_cast<std::byte*>(buffer), std::move(done), true);
  }
  // Runs what is due to completions that are there; how many.
  std::size_t reap();
  void flush() { medium_.flush(); }
  std::size_t in_flight() const { return in_flight_; }
  std::size_t writes_in_flight() const { return writes_in_flight_; }

  std::uint64_t reads = 0, writes = 0, read_bytes = 0, write_bytes = 0, errors = 0;

 private:
  struct Slot {
    Done done;
    bool write = false;
  };
  void start(IoRequest::Op op, std::uint64_t block, std::uint32_t blocks, std::byte* buffer, Done done, bool prompt = false);

  Medium& medium_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::size_t in_flight_ = 0;
  std::size_t writes_in_flight_ = 0;
};

}  // namespace stp
