#include "stp/storage_facts.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "stp/file_system.h"

namespace stp {
namespace {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// A number of the device's request queue; for a partition it is one directory up. 0 where there is none.
std::uint32_t queue_number(dev_t device, const char* name) {
  for (const char* up : {"", "../"}) {
    const std::string path = fmt::format("/sys/dev/block/{}:{}/{}queue/{}", major(device), minor(device), up, name);
    unsigned number = 0;
    if (std::sscanf(first_line(path).c_str(), "%u", &number) == 1) return number;
  }
  return 0;
}

// The device at the bottom is none that this kernel makes up out of memory or of a file's cached pages.
bool is_hardware(dev_t device, int depth = 0) {
  constexpr int kDeepest = 4;
  if (depth == kDeepest || major(device) == 0) return false;
  const std::filesystem::path link = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(link, error);
  if (error) return false;
  if (!path.string().starts_with("/sys/devices/virtual/")) return true;
  struct stat st {};
  if (first_line(path / "loop/dio") == "1")  // a loop device that passes requests on, past the page cache
    return ::stat(first_line(path / "loop/backing_file").c_str(), &st) == 0 && is_hardware(S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev, depth + 1);
  for (const auto& slave : std::filesystem::directory_iterator(path / "slaves", error)) {  // dm, md
    unsigned of_major = 0, of_minor = 0;
    if (std::sscanf(first_line(slave.path() / "dev").c_str(), "%u:%u", &of_major, &of_minor) == 2)
      return is_hardware(makedev(of_major, of_minor), depth + 1);
  }
  return false;
}

void set_if_known(std::uint32_t& fact, std::uint32_t number) {
  if (number != 0) fact = number;
}

std::string cannot_open(const std::string& path, bool writable, int error) {
  std::string text =
      fmt::format("can not open \"{}\" for {}: {}", path, writable ? "reading and writing" : "reading", std::strerror(error));
  if (error == EACCES || error == EPERM) text += "; its owner or root must give this user access";
  if (error == ENOENT) text += "; check the path, or make a storage there with `stp format`";
  return text;
}

}  // namespace

Result<OpenedPath> open_path(const std::string& path, bool writable) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail(errno, cannot_open(path, writable, errno));
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
    return fail(ENOTBLK,
                fmt::format("\"{}\" is neither a regular file nor a block device; a data storage system must be one of them", path));
  // Never O_NONBLOCK: io_uring would give up on every request that has to wait.
  const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
  OpenedPath opened{.fd = ::open(path.c_str(), flags | O_DIRECT), .direct_io = true};
  if (opened.fd < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) opened = {.fd = ::open(path.c_str(), flags), .direct_io = false};
  if (opened.fd < 0) return fail(errno, cannot_open(path, writable, errno));
  return opened;
}

Result<StorageFacts> facts_of(int fd, const std::string& path) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return fail(errno, fmt::format("can not stat \"{}\": {}", path, std::strerror(errno)));
  StorageFacts facts;
  facts.block_device = S_ISBLK(st.st_mode);
  facts.hardware = is_hardware(facts.block_device ? st.st_rdev : st.st_dev);
  if (!facts.block_device && !S_ISREG(st.st_mode))
    return fail(ENOTBLK, fmt::format("\"{}\" is neither a regular file nor a block device", path));
  if (!facts.block_device) {
    const FileSystem file_system = file_system_of(fd);
    facts.file_system = file_system.name;
    facts.network_file_system = file_system.network;
    facts.size_bytes = static_cast<std::uint64_t>(st.st_size);
    set_if_known(facts.logical_block_bytes, queue_number(st.st_dev, "logical_block_size"));
    facts.physical_block_bytes = facts.logical_block_bytes;
    set_if_known(facts.physical_block_bytes, queue_number(st.st_dev, "physical_block_size"));
    return facts;
  }
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0)
    return fail(errno, fmt::format("can not ask \"{}\" for its size: {}", path, std::strerror(errno)));
  facts.size_bytes = size;
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(fd, BLKSSZGET, &logical) == 0 && logical > 0) facts.logical_block_bytes = static_cast<std::uint32_t>(logical);
  facts.physical_block_bytes = facts.logical_block_bytes;
  if (::ioctl(fd, BLKPBSZGET, &physical) == 0 && physical > 0) facts.physical_block_bytes = physical;
  return facts;
}

Result<StorageFacts> probe_storage(const std::string& path) {
  auto opened = open_path(path, false);
  if (!opened) return std::unexpected(opened.error());
  auto facts = facts_of(opened->fd, path);
  if (facts) facts->direct_io = opened->direct_io;
  ::close(opened->fd);
  return facts;
}

}  // namespace stp
