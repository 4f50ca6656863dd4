// What a path holds before it is formatted: a file system, a partition table, another STG with hosts alive on it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "stp/lease_watch.h"
#include "stp/raw_file.h"
#include "stp/superblock.h"

namespace stp {

struct Occupancy {
  std::string content;                      // in words: 'an ext4 file system labelled "data"'; empty: nothing that is known
  std::optional<Superblock> stg;            // the STG there
  std::uint64_t stg_copy_offset = 0;
  std::vector<std::string> slots;           // names of the hosts that hold slots there, dead ones too
  std::vector<std::string> live;            // those that are alive: their slot lock is held, or their beat changed
};

// Takes a moment (a few beats) when an STG is there whose slots are held; else a few reads.
Result<Occupancy> examine_occupancy(const RawFile& file, const WatchClock& clock);

}  // namespace stp
