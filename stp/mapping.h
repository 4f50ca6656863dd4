// The mapping behind the mapped medium: a whole storage in memory, shared with every process that maps it. Copies never
// tear 8 aligned bytes, publish in order (what a copy in wrote is seen by whoever sees what a later copy in wrote), and survive
// SIGBUS: memory whose file was cut short, or that a full tmpfs or a broken disk can not provide.
//
// SIGBUS: the first mapping of a process installs a handler; it answers for faults of these copies alone and hands all
// others to the handler that was there before.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "stp/bytes.h"
#include "stp/error.h"

namespace stp {

class Mapping {
 public:
  // Maps the first `size` bytes of the file. A child of a fork does not inherit the mapping.
  static Result<std::unique_ptr<Mapping>> create(int fd, std::uint64_t size, bool writable);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::uint64_t size() const { return size_; }
  bool writable() const { return writable_; }
  // `offset` and the length are multiples of 8 inside the mapping; copy_in needs a writable one. False after SIGBUS: some of it was copied,
  // who knows how much.
  bool copy_out(std::uint64_t offset, Bytes into) const;
  bool copy_in(std::uint64_t offset, ConstBytes from) const;

 private:
  Mapping(std::byte* base, std::uint64_t size, bool writable);
  std::byte* const base_;
  const std::uint64_t size_;
  const bool writable_;
  const pid_t pid_;
};

}  // namespace stp
