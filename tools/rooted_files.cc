#include "tools/rooted_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>

namespace stp {

namespace {

std::unexpected<Failure> failed(int error, std::string_view doing, std::string_view path) {
  return file_failure(error, fmt::format("{} \"{}\"", doing, path.empty() ? "/" : printable(path)));
}

// Our own rules, before the kernel sees the path.
Outcome<std::string> checked(std::string_view path) {
  if (valid_relative_path(path)) return std::string(path);
  return failure(FailureCode::kRefused, fmt::format("\"{}\" is refused: paths must stay inside the root directory", printable(path)));
}

int open_with_openat2(int root, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether the path stayed inside.
  for (int attempt = 0; attempt < 64; ++attempt) {
    const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) return static_cast<int>(fd);
  }
  return -1;
}

std::int64_t nanoseconds(const timespec& time) {
  std::int64_t out = 0;
  if (__builtin_mul_overflow(static_cast<std::int64_t>(time.tv_sec), std::int64_t{1'000'000'000}, &out) ||
      __builtin_add_overflow(out, static_cast<std::int64_t>(time.tv_nsec), &out))
    return time.tv_sec < 0 ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max();
  return out;
}

}  // namespace

FileEntry entry_of(std::string name, const struct stat& status) {
  FileEntry entry;
  entry.name = std::move(name);
  entry.kind = S_ISREG(status.st_mode)   ? FileKind::kFile
               : S_ISDIR(status.st_mode) ? FileKind::kDirectory
               : S_ISLNK(status.st_mode) ? FileKind::kLink
                                         : FileKind::kOther;
  entry.mode = status.st_mode & 07777;
  entry.size = static_cast<std::uint64_t>(status.st_size);
  entry.mtime_ns = nanoseconds(status.st_mtim);
  return entry;
}

bool valid_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == name.npos && name.find('\0') == name.npos;
}

bool valid_relative_path(std::string_view path) {
  if (path.empty()) return true;
  if (path.size() > 4095) return false;
  while (true) {
    const std::size_t slash = path.find('/');
    if (!valid_file_name(path.substr(0, slash))) return false;
    if (slash == path.npos) return true;
    path.remove_prefix(slash + 1);
  }
}

Outcome<RootedFiles> RootedFiles::open(const std::string& directory) {
  UniqueFd root(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return failed(errno, "cannot open root directory", directory);
  return RootedFiles(std::move(root));
}

int RootedFiles::open_below(const std::string& path, int flags) const {
  flags |= O_CLOEXEC;
  if ((flags & O_PATH) == 0) flags |= O_NOCTTY;  // openat2 refuses the two together
  const std::string name = path.empty() ? "." : path;
  if (use_openat2_) {
    const int fd = open_with_openat2(root_.get(), name, flags);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
    // ENOSYS: an old kernel. EPERM: a container's filter says so instead, or it is truly forbidden; the walk finds out.
  }
  return walk_below(name, flags);
}

int RootedFiles::walk_below(const std::string& path, int flags) const {
  UniqueFd here(::fcntl(root_.get(), F_DUPFD_CLOEXEC, 0));
  std::string_view rest = path;
  while (here) {
    const std::size_t slash = rest.find('/');
    const std::string name(rest.substr(0, slash));
    if (slash == rest.npos) return ::openat(here.get(), name.c_str(), flags | O_NOFOLLOW);
    UniqueFd next(::openat(here.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next && errno == ENOTDIR) {
      // O_DIRECTORY with O_NOFOLLOW says ENOTDIR for a link as well; a link is refused by its own name.
      struct stat status {};
      const bool link = ::fstatat(here.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
      errno = link ? ELOOP : ENOTDIR;
    }
    if (!next) return -1;
    here = std::move(next);
    rest.remove_prefix(slash + 1);
  }
  return -1;
}

Outcome<UniqueFd> RootedFiles::open_for_reading(std::string_view path, struct stat* status) const {
  const auto name = checked(path);
  if (!name) return std::unexpected(name.error());
  // O_NONBLOCK: a FIFO without a writer must not hold us.
  UniqueFd fd(open_below(*name, O_RDONLY | O_NONBLOCK));
  if (!fd || ::fstat(fd.get(), status) != 0) return failed(errno, "cannot open", path);
  if (S_ISDIR(status->st_mode)) return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is a directory; get -r copies it", printable(path)));
  if (!S_ISREG(status->st_mode)) return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is not a regular file", printable(path)));
  return fd;
}

Outcome<UniqueFd> RootedFiles::open_directory(std::string_view path) const {
  const auto name = checked(path);
  if (!name) return std::unexpected(name.error());
  UniqueFd fd(open_below(*name, O_RDONLY | O_DIRECTORY));
  if (!fd) return failed(errno, "cannot open directory", path);
  return fd;
}

Outcome<RootedFiles::Place> RootedFiles::open_parent(std::string_view path) const {
  const auto name = checked(path);
  if (!name) return std::unexpected(name.error());
  if (name->empty()) return failure(FailureCode::kRefused, "the root directory itself cannot be replaced, renamed or removed");
  const std::size_t slash = name->rfind('/');
  auto directory = open_directory(slash == name->npos ? std::string_view() : std::string_view(*name).substr(0, slash));
  if (!directory) return std::unexpected(directory.error());
  return Place{std::move(*directory), slash == name->npos ? *name : name->substr(slash + 1)};
}

Outcome<FileEntry> RootedFiles::stat(std::string_view path) const {
  const auto name = checked(path);
  if (!name) return std::unexpected(name.error());
  const UniqueFd fd(open_below(*name, O_PATH));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return failed(errno, "cannot look at", path);
  return entry_of(name->substr(name->rfind('/') + 1), status);
}

Outcome<std::vector<FileEntry>> RootedFiles::list(std::string_view path) const {
  auto directory = open_directory(path);
  if (!directory) return std::unexpected(directory.error());
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(directory->get()), ::closedir);
  if (!stream) return failed(errno, "cannot list", path);
  const int fd = directory->release();
  std::vector<FileEntry> entries;
  while (true) {
    errno = 0;
    const dirent* next = ::readdir(stream.get());
    if (next == nullptr && errno != 0) return failed(errno, "cannot list", path);
    if (next == nullptr) break;
    const std::string name = next->d_name;
    if (name == "." || name == "..") continue;
    struct stat status {};
    if (::fstatat(fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;  // gone meanwhile
    const bool link = S_ISLNK(status.st_mode);
    if (link) {
      const UniqueFd target(open_below(path.empty() ? name : std::string(path) + "/" + name, O_PATH));
      struct stat behind {};
      if (target && ::fstat(target.get(), &behind) == 0) status = behind;
    }
    entries.push_back(entry_of(name, status));
    entries.back().through_link = link;
  }
  std::ranges::sort(entries, {}, &FileEntry::name);
  return entries;
}

Outcome<void> RootedFiles::make_directory(std::string_view path, std::uint32_t mode, bool exist_ok) const {
  if (path.empty() && exist_ok) return {};
  const auto place = open_parent(path);
  if (!place) return std::unexpected(place.error());
  if (::mkdirat(place->directory.get(), place->name.c_str(), mode & 0777) == 0) return {};
  const int error = errno;
  if (error == EEXIST && exist_ok) {
    const auto there = stat(path);
    if (there && there->kind == FileKind::kDirectory) return {};
    return failure(FailureCode::kWrongKind, fmt::format("\"{}\" exists and is not a directory", printable(path)));
  }
  return failed(error, "cannot make directory", path);
}

Outcome<void> RootedFiles::remove_directory(std::string_view path) const {
  const auto place = open_parent(path);
  if (!place) return std::unexpected(place.error());
  if (::unlinkat(place->directory.get(), place->name.c_str(), AT_REMOVEDIR) != 0) return failed(errno, "cannot remove directory", path);
  return {};
}

Outcome<void> RootedFiles::remove_file(std::string_view path) const {
  const auto place = open_parent(path);
  if (!place) return std::unexpected(place.error());
  if (::unlinkat(place->directory.get(), place->name.c_str(), 0) != 0) return failed(errno, "cannot remove", path);
  return {};
}

Outcome<void> RootedFiles::rename(std::string_view from, std::string_view to) const {
  const auto source = open_parent(from);
  if (!source) return std::unexpected(source.error());
  const auto target = open_parent(to);
  if (!target) return std::unexpected(target.error());
  const int from_fd = source->directory.get(), to_fd = target->directory.get();
  if (::renameat2(from_fd, source->name.c_str(), to_fd, target->name.c_str(), RENAME_NOREPLACE) == 0) return {};
  struct stat there {};
  // Some file systems do not know the flag.
  if (errno == EINVAL && ::fstatat(to_fd, target->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0 &&
      ::renameat(from_fd, source->name.c_str(), to_fd, target->name.c_str()) == 0)
    return {};
  return failed(errno, fmt::format("cannot rename \"{}\" to", printable(from)), to);
}

}  // namespace stp
