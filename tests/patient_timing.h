// Timings for tests that run on machines which are busy with other things: a host joins as fast as with the profile "fast", but it is not
// fenced, nor taken for dead by another kernel, for standing still for half a second. (Who dies on the same kernel is missed at once
// whatever the timings.) Header alone: the C API's tests and the fuzz targets share it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "stp/superblock.h"
#include "stp/timing.h"

namespace stp::test {

// Writes both superblocks of a storage that was just formatted, before anybody joins. False: it could not.
inline bool give_patient_timing(const std::string& path, Superblock superblock) {
  superblock.timing.fence_ms = 8000;
  superblock.timing.dead_ms = 10'000;
  if (!check_timing(superblock.timing)) return false;
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::vector<std::byte> block(superblock.geometry.block_size);
  bool good = true;
  for (const std::uint64_t place : {std::uint64_t{0}, superblock.geometry.superblock_copy()}) {
    encode_superblock(block, superblock, place);
    good = good && ::pwrite(fd, block.data(), block.size(), static_cast<off_t>(place * block.size())) == static_cast<ssize_t>(block.size());
  }
  return ::close(fd) == 0 && good;
}

}  // namespace stp::test
