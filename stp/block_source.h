// The blocks of a storage, to be looked at: a storage that this process has open, or what somebody who has it open reads for it.
#pragma once

#include <string>

#include "stp/error.h"
#include "stp/superblock.h"
#include "stp/timing.h"

namespace stp {

struct Lease;

// A block that does not check may be in the middle of being written: so often it is read before that is said, with pauses.
inline constexpr int kReadings = 4;
inline constexpr Nanos kBetweenReadings = 50 * kMillisecond;

class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual const std::string& path() const = 0;  // for words
  virtual const Superblock& superblock() const = 0;
  // Blocking: whole blocks, any number. Several threads at once.
  virtual Result<void> read(std::uint64_t block, Bytes into) = 0;

  // What is known of the holder of a lease beside its beat.
  enum class Holder : std::uint8_t { kUnknown, kThere, kGone };
  virtual Holder holder(Slot slot, const Lease& lease) = 0;
};

}  // namespace stp
