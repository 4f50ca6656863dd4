// The superblock: what this storage is, how it is laid out, how its hosts keep time.
// Written once by `stp format` (block 0, then the copy in the last block); everyone else only reads it.
//
// Magic "STPSUPER"; writer's slot 0xffffffff, incarnation 1, sequence 1; body:
//   offset size  field
//        0   32  STG name, NUL-padded
//       32    4  block size      36 4 hosts    40 4 sockets    44 4 ring blocks    48 4 extents a host
//       52    1  medium: 1 direct, 2 mapped    53 3 reserved
//       56    8  total blocks
//       64   12x4 timings in the order of struct Timing
//      112    8  time of the format, milliseconds since 1970 (display only)
//      120    8  feature bits that a host must know to join (0 today)
//      128    4  number of directory entries, at most 32    132 4 reserved
//      136   40 an entry: type u32, flags u32, first block u64, stride in blocks u64 (0: one region for
//            all), blocks u64 (of one stride), count u64. Types: 1 leases, 2 gates, 3 SCB tables, 4 port
//            files, 5 rings, 6 cache regions. Unknown types are skipped: their blocks are somebody else's.
#pragma once

#include <string>
#include <vector>

#include "stp/block.h"
#include "stp/geometry.h"
#include "stp/timing.h"

namespace stp {

inline constexpr std::uint64_t kSuperblockMagic = magic("STPSUPER");

enum class MediumKind : std::uint8_t { kDirect = 1, kMapped = 2 };
std::string_view to_string(MediumKind kind);

struct Superblock {
  Uuid uuid{};
  std::string stg;
  MediumKind medium = MediumKind::kDirect;
  Geometry geometry;
  Timing timing;
  std::uint64_t formatted_ms = 0;
  bool operator==(const Superblock&) const = default;
};

// `block` is one whole block of geometry.block_size bytes; place is 0 or geometry.superblock_copy().
void encode_superblock(Bytes block, const Superblock& superblock, std::uint64_t place);

// `bytes` is at least 4096 bytes from the supposed place. Checks everything: geometry and timings by
// their own rules, and that the directory says what the geometry derives. EINVAL with the reason in words.
Result<Superblock> decode_superblock(ConstBytes bytes);

std::string to_string(const Uuid& uuid);

}  // namespace stp
