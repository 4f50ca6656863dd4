// Where a superblock and its copy may lie on a file or device of which nothing is known yet.
#pragma once

#include <optional>
#include <vector>

#include "stp/raw_file.h"
#include "stp/superblock.h"

namespace stp {

struct FoundSuperblock {
  std::uint64_t offset = 0;
  std::optional<Superblock> superblock;  // when it is good
  std::string fault;                     // why it is not
};

// Reads one place, and checks that what it finds belongs exactly there.
FoundSuperblock read_superblock_at(const RawFile& file, std::uint64_t offset);

// The places where a copy may be in `bytes` of storage whose block size is not known: the last whole block of each size.
std::vector<std::uint64_t> superblock_copy_places(std::uint64_t bytes);

// Every good superblock of block 0 and of superblock_copy_places().
std::vector<FoundSuperblock> find_superblocks(const RawFile& file, std::uint64_t bytes);

}  // namespace stp
