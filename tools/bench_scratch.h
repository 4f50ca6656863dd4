// Where the raw rivals of `stp bench` play: bytes of the same storage that no host uses.
//
// For a file: a scratch file beside it, on the same file system, gone (even after a crash) when this object is. For a device: the cache
// region of the highest slot that is FREE and kept for no name. What is left there means nothing to anyone: an extent is
// read only after it was announced, and checked by its hash. still_free() tells whether a host has come into that slot meanwhile.
#pragma once

#include <memory>
#include <string>

#include "stp/storage.h"
#include "tools/raw_queue.h"

namespace stp::tools {

class BenchScratch {
 public:
  static Result<std::unique_ptr<BenchScratch>> make(Storage& storage);
  ~BenchScratch();
  BenchScratch(const BenchScratch&) = delete;
  BenchScratch& operator=(const BenchScratch&) = delete;

  const RawRange& range() const { return range_; }
  Result<void> still_free(Storage& storage) const;

 private:
  BenchScratch() = default;
  static Result<std::unique_ptr<BenchScratch>> beside_file(const std::string& path, std::uint64_t bytes);
  static Result<std::unique_ptr<BenchScratch>> in_free_slot(Storage& storage, std::uint64_t bytes);
  RawRange range_;
  int file_ = -1;
  Slot slot_ = kNoSlot;
};

}  // namespace stp::tools
