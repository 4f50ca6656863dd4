// Makes a data storage system out of a file or block device.
//
// Everything is preallocated by writing: FREE leases, zeros elsewhere (a block never written reads as empty). The superblock
// in block 0 comes last, and an old one is destroyed first: an interrupted format leaves no storage, never half of one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "stp/lease_watch.h"
#include "stp/superblock.h"

namespace stp {

struct FormatRequest {
  std::string path;
  std::string stg;                                  // name of the group; empty: made from the path
  std::optional<std::uint64_t> size_bytes;          // default: a device's or existing file's own, 1 GiB for a new file
  std::optional<std::uint32_t> hosts, sockets;      // explicit numbers are never shrunk
  std::optional<MediumKind> medium;                 // default: mapped on tmpfs and where O_DIRECT does not work, else direct
  std::optional<std::uint32_t> block_size;          // default: the physical block, at least 4096
  std::string timing = "local";
  bool force = false;                               // over whatever is there, live hosts too
  // Called from the formatting thread. False stops: the path then holds no storage.
  std::function<bool(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
  std::function<void(const std::string&)> warn;     // what --force overrode
  WatchClock clock = WatchClock::real();            // by which the hosts of an old storage are watched
};

inline constexpr std::uint64_t kDefaultStorageBytes = std::uint64_t{1} << 30;

// Errors: EEXIST (holds something else), EBUSY (live hosts, mounted), ENOSPC (too small, with the size that would do),
// EINVAL, ECANCELED (stopped), and those of the I/O.
Result<Superblock> format_storage(const FormatRequest& request);

}  // namespace stp
