// Restores a damaged superblock from its copy, or a damaged copy from the superblock. Writes nothing else.
#pragma once

#include <optional>
#include <string>

#include "stp/superblock.h"

namespace stp {

enum class RepairSource : std::uint8_t { kFirst, kCopy };

struct RepairRequest {
  std::string path;
  std::optional<RepairSource> from;  // needed only when both are good and say different things
};

struct RepairOutcome {
  enum class Done : std::uint8_t { kNothing, kFirstRestored, kCopyRestored };
  Done done = Done::kNothing;
  Superblock superblock;
  std::string was;  // what was wrong
};

// Errors: EUCLEAN when neither is good, EEXIST when both are and differ and `from` is not given, those of the I/O.
Result<RepairOutcome> repair_superblock(const RepairRequest& request);

}  // namespace stp
