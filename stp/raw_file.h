// A file or block device by byte offsets, for the tools that must work where there is no valid superblock yet or
// any more (format, repair). Everything else goes through Storage.
//
// O_DIRECT where the file system takes it, so that what other kernels wrote is seen; buffered otherwise.
// Blocking; one thread at a time a call, any number of threads.
#pragma once

#include <cstdint>
#include <string>

#include "stp/bytes.h"
#include "stp/error.h"

namespace stp {

class RawFile {
 public:
  struct Options {
    bool write = false;
    bool create = false;     // a regular file that is not there yet
    bool exclusive = false;  // O_EXCL on a block device: EBUSY when it is mounted or otherwise in use
    bool buffered = false;   // not O_DIRECT even where it would work
  };
  static Result<RawFile> open(const std::string& path, const Options& options);
  RawFile(RawFile&& other) noexcept;
  RawFile& operator=(RawFile&& other) noexcept;
  RawFile(const RawFile&) = delete;
  ~RawFile();

  int fd() const { return fd_; }
  bool direct() const { return direct_; }
  const std::string& path() const { return path_; }
  Result<std::uint64_t> size() const;  // of a device too
  Result<void> resize(std::uint64_t bytes);

  // Offset, size and memory aligned to 4096. What lies behind the end reads as zeros.
  Result<void> read(std::uint64_t offset, Bytes into) const;
  Result<void> write(std::uint64_t offset, ConstBytes from) const;
  Result<void> sync() const;

 private:
  RawFile(int fd, bool direct, std::string path) : fd_(fd), direct_(direct), path_(std::move(path)) {}
  int fd_ = -1;
  bool direct_ = false;
  std::string path_;
};

// "PATH: what: No such file or directory", with errno's code.
std::unexpected<Error> fail_errno(const std::string& path, const char* what, int code);

}  // namespace stp
