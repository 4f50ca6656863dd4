#include "stp/raw_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace stp {

std::unexpected<Error> fail_errno(const std::string& path, const char* what, int code) {
  return fail(code, fmt::format("{}: {}: {}", path, what, std::strerror(code)));
}

Result<RawFile> RawFile::open(const std::string& path, const Options& o) {
  const int base = (o.write ? O_RDWR : O_RDONLY) | O_CLOEXEC | (o.create ? O_CREAT : 0) | (o.exclusive ? O_EXCL : 0);
  bool direct = !o.buffered;
  int fd = ::open(path.c_str(), base | (direct ? O_DIRECT : 0), 0666);
  if (fd < 0 && direct && (errno == EINVAL || errno == EOPNOTSUPP)) {
    direct = false;
    fd = ::open(path.c_str(), base, 0666);
  }
  if (fd < 0) return fail_errno(path, "can not open", errno);
  return RawFile(fd, direct, path);
}

RawFile::RawFile(RawFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)), direct_(other.direct_), path_(std::move(other.path_)) {}

RawFile& RawFile::operator=(RawFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(direct_, other.direct_);
  std::swap(path_, other.path_);
  return *this;
}

RawFile::~RawFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<std::uint64_t> RawFile::size() const {
  struct stat st {};
  if (::fstat(fd_, &st) != 0) return fail_errno(path_, "can not be looked at", errno);
  if (S_ISBLK(st.st_mode)) {
    std::uint64_t bytes = 0;
    if (::ioctl(fd_, BLKGETSIZE64, &bytes) != 0) return fail_errno(path_, "can not tell the device's size", errno);
    return bytes;
  }
  if (!S_ISREG(st.st_mode)) return fail(EINVAL, fmt::format("{}: neither a regular file nor a block device", path_));
  return static_cast<std::uint64_t>(st.st_size);
}

Result<void> RawFile::resize(std::uint64_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return fail_errno(path_, "can not set the size", errno);
  return {};
}

Result<void> RawFile::read(std::uint64_t offset, Bytes into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t n = ::pread(fd_, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(path_, fmt::format("can not read at offset {}", offset + done).c_str(), errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
    if (direct_ && done % 4096 != 0) break;  // the end of a file that is no multiple of 4096
  }
  std::memset(into.data() + done, 0, into.size() - done);
  return {};
}

Result<void> RawFile::write(std::uint64_t offset, ConstBytes from) const {
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t n = ::pwrite(fd_, from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(path_, fmt::format("can not write at offset {}", offset + done).c_str(), n < 0 ? errno : EIO);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Result<void> RawFile::sync() const {
  if (::fsync(fd_) != 0) return fail_errno(path_, "can not write everything to the storage", errno);
  return {};
}

}  // namespace stp
