// A small formatted storage in a temporary file, for tests of what lies below the transport core.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "stp/superblock.h"

namespace stp::testing {

// A path that nobody else uses, below $TMPDIR or the working directory; the file is removed with the object.
class ScratchFile {
 public:
  explicit ScratchFile(std::uint64_t size = 0) {
    const char* directory = std::getenv("TMPDIR");
    std::string pattern = std::string(directory != nullptr ? directory : ".") + "/stp-test-XXXXXX";
    const int fd = ::mkstemp(pattern.data());
    EXPECT_GE(fd, 0) << pattern;
    path_ = pattern;
    fill(fd, size);
    ::close(fd);
  }
  ~ScratchFile() { ::unlink(path_.c_str()); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& path() const { return path_; }
  void resize(std::uint64_t size) const { EXPECT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size)), 0); }

 private:
  // Written, not truncated to size: direct writes into holes are another case.
  static void fill(int fd, std::uint64_t size) {
    const std::vector<char> zeros(1 << 20);
    for (std::uint64_t done = 0; done < size;) {
      const ssize_t n = ::write(fd, zeros.data(), std::min<std::uint64_t>(zeros.size(), size - done));
      ASSERT_GT(n, 0);
      done += static_cast<std::uint64_t>(n);
    }
  }
  std::string path_;
};

inline Superblock small_superblock(MediumKind medium, std::uint32_t block_size = 4096) {
  Superblock s;
  s.uuid[0] = std::byte{0x5a};
  s.stg = "test";
  s.medium = medium;
  s.geometry = {.block_size = block_size, .hosts = 2, .sockets = 16, .ring_blocks = 16, .extents = 4};
  s.geometry.total_blocks = bytes_needed(s.geometry) / block_size;
  s.geometry = *derive_geometry(s.geometry);
  s.timing = *timing_profile("fast");
  s.formatted_ms = 1;
  return s;
}

inline void write_at(const std::string& path, std::uint64_t offset, ConstBytes bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0) << path;
  ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)), static_cast<ssize_t>(bytes.size()));
  ASSERT_EQ(::fsync(fd), 0);
  ::close(fd);
}

// Superblock and copy only; everything else stays as it is.
inline void write_superblocks(const std::string& path, const Superblock& s) {
  std::vector<std::byte> block(s.geometry.block_size);
  for (const std::uint64_t place : {std::uint64_t{0}, s.geometry.superblock_copy()}) {
    encode_superblock(block, s, place);
    write_at(path, place * s.geometry.block_size, block);
  }
}

// A ScratchFile with a small storage in it.
class ScratchStorage : public ScratchFile {
 public:
  explicit ScratchStorage(MediumKind medium, std::uint32_t block_size = 4096) : ScratchStorage(small_superblock(medium, block_size)) {}
  explicit ScratchStorage(const Superblock& s) : ScratchFile(s.geometry.total_bytes()), superblock_(s) { write_superblocks(path(), s); }
  const Superblock& superblock() const { return superblock_; }

 private:
  Superblock superblock_;
};

// STP_IO for as long as the object lives.
class ForcedIo {
 public:
  explicit ForcedIo(const char* value) { value == nullptr ? ::unsetenv("STP_IO") : ::setenv("STP_IO", value, 1); }
  ~ForcedIo() { ::unsetenv("STP_IO"); }
};

}  // namespace stp::testing
