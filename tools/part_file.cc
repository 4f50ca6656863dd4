#include "tools/part_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <thread>

namespace stp {

namespace {

constexpr std::string_view kMagic = "stp-ftp partial transfer 1\n";
constexpr std::chrono::milliseconds kLockInterval{20};
constexpr std::uint64_t kReserveFrom = std::uint64_t{1} << 20;  // smaller files are not worth the call
constexpr std::uint64_t kDurableFrom = std::uint64_t{1} << 20;

std::string info_text(const SourceIdentity& source) { return fmt::format("{}size {}\nmtime_ns {}\n", kMagic, source.size, source.mtime_ns); }

template <class T>
bool take_number(std::string_view& text, std::string_view key, T* value) {
  if (!text.starts_with(key)) return false;
  text.remove_prefix(key.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || used == text.size() || text[used] != '\n') return false;
  text.remove_prefix(used + 1);
  return true;
}

std::optional<SourceIdentity> parse_info(std::string_view text) {
  SourceIdentity source;
  if (!text.starts_with(kMagic)) return std::nullopt;
  text.remove_prefix(kMagic.size());
  if (!take_number(text, "size ", &source.size) || !take_number(text, "mtime_ns ", &source.mtime_ns)) return std::nullopt;
  return source;
}

}  // namespace

std::unexpected<Failure> PartFile::failed(int error, std::string_view doing) const {
  const FailureCode code = code_of_errno(error);
  if (code == FailureCode::kDiskFull)
    return failure(code, fmt::format("cannot write \"{}\": {}; make room and run the same command again, it resumes", printable(shown_),
                                     error == EFBIG ? "the file size limit is reached" : error == EDQUOT ? "the quota is used up" : "the disk is full"));
  return file_failure(error, fmt::format("{} \"{}\"", doing, printable(shown_)));
}

bool PartFile::is_at(const UniqueFd& fd, const std::string& name) const {
  struct stat mine {}, there {};
  return ::fstat(fd.get(), &mine) == 0 && ::fstatat(place_.directory.get(), name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

Outcome<PartFile> PartFile::begin(RootedFiles::Place place, std::string shown, const SourceIdentity& source, std::chrono::milliseconds patience) {
  PartFile file(std::move(place), std::move(shown), source);
  if (auto done = file.check_target(); !done) return std::unexpected(done.error());
  if (auto done = file.lock_info(patience); !done) return std::unexpected(done.error());
  if (auto done = file.open_part(); !done) return std::unexpected(done.error());
  return file;
}

PartFile::~PartFile() {
  if (!part_) return;
  // Gives back what start_at() reserved beyond the end.
  struct stat status {};
  if (::fstat(part_.get(), &status) == 0) (void)!::ftruncate(part_.get(), status.st_size);
}

Outcome<void> PartFile::check_target() const {
  if (info_name().size() > 255) return failure(FailureCode::kOther, fmt::format("the name \"{}\" is too long: at most 245 bytes", printable(shown_)));
  struct stat status {};
  if (::fstatat(place_.directory.get(), place_.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (S_ISDIR(status.st_mode)) return failure(FailureCode::kWrongKind, fmt::format("\"{}\" is a directory", printable(shown_)));
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode))
    return failure(FailureCode::kExists, fmt::format("\"{}\" exists and is not a regular file", printable(shown_)));
  return {};
}

Outcome<void> PartFile::lock_info(std::chrono::milliseconds patience) {
  const std::string name = info_name();
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    info_.reset(::openat(place_.directory.get(), name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
    if (!info_) return failed(errno, "cannot create the partial file of");
    struct stat status {};
    if (::fstat(info_.get(), &status) != 0 || !S_ISREG(status.st_mode))
      return failure(FailureCode::kExists, fmt::format("\"{}.part.info\" is in the way and not a regular file", printable(shown_)));
    const bool locked = ::flock(info_.get(), LOCK_EX | LOCK_NB) == 0;
    // The one who held it may have finished in between: then this is no longer the file of that name, and the next try gets the new one.
    if (locked && is_at(info_, name)) return {};
    if (!locked && errno != EWOULDBLOCK && errno != EINTR) return failed(errno, "cannot lock the partial file of");
    if (!locked && std::chrono::steady_clock::now() >= deadline)
      return failure(FailureCode::kBusy, fmt::format("another transfer is writing \"{}\"; if that one was cut off, try again in a moment", printable(shown_)));
    if (!locked) std::this_thread::sleep_for(kLockInterval);
  }
}

Outcome<void> PartFile::open_part() {
  char buffer[512];
  const ssize_t length = ::pread(info_.get(), buffer, sizeof buffer, 0);
  if (length < 0) return failed(errno, "cannot read the partial file of");
  std::string_view text(buffer, static_cast<std::size_t>(length));
  // Of one that was just created when the power went, the size may have been kept without the content. There was no part yet.
  if (text.find_first_not_of('\0') == text.npos) text = {};
  if (!text.empty() && !text.starts_with(kMagic))
    return failure(FailureCode::kExists, fmt::format("\"{}.part.info\" is in the way and was not made by a transfer", printable(shown_)));
  // An empty one was just created: whatever carries the part's name is not ours.
  const int exclusive = text.empty() ? O_EXCL : 0;
  if (exclusive != 0) {
    if (auto done = write_info(); !done) return done;
    // Durable before there is a part: else a machine that loses its power has a part that nothing proves to be ours. What takes no time is not worth it.
    if (source_.size >= kDurableFrom && ::fsync(info_.get()) != 0) return failed(errno, "cannot write the partial file of");
  }
  const std::string name = part_name();
  part_.reset(::openat(place_.directory.get(), name.c_str(), O_RDWR | O_CREAT | exclusive | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  struct stat status {};
  if (!part_ || ::fstat(part_.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    const int error = part_ ? EEXIST : errno;
    part_.reset();
    if (exclusive != 0) (void)::unlinkat(place_.directory.get(), info_name().c_str(), 0);
    if (error == EEXIST || error == ELOOP)
      return failure(FailureCode::kExists, fmt::format("\"{}.part\" is in the way and was not made by a transfer; rename or remove it", printable(shown_)));
    return failed(error, "cannot create the partial file of");
  }
  const auto before = parse_info(text);
  if (before && *before == source_) {
    resumable_ = std::min(static_cast<std::uint64_t>(status.st_size), source_.size);
    return {};
  }
  return restart(source_);
}

Outcome<void> PartFile::write_info() {
  const std::string text = info_text(source_);
  // The new text over the old, then cut: never empty in between, which would say that the part is not ours.
  if (::pwrite(info_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ::ftruncate(info_.get(), static_cast<off_t>(text.size())) != 0)
    return failed(errno, "cannot write the partial file of");
  return {};
}

Outcome<void> PartFile::restart(const SourceIdentity& source) {
  source_ = source;
  resumable_ = 0;
  // The bytes go before their description changes.
  if (::ftruncate(part_.get(), 0) != 0) return failed(errno, "cannot write the partial file of");
  return write_info();
}

Outcome<void> PartFile::start_at(std::uint64_t offset) {
  if (offset > resumable_) return failure(FailureCode::kProtocol, fmt::format("resume of \"{}\" beyond what is there", printable(shown_)));
  if (::ftruncate(part_.get(), static_cast<off_t>(offset)) != 0) return failed(errno, "cannot write");
  const std::uint64_t rest = source_.size - offset;
  if (rest < kReserveFrom) return {};
  if (::fallocate(part_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(rest)) != 0 &&
      code_of_errno(errno) == FailureCode::kDiskFull)
    return failed(errno, "cannot write");
  return {};
}

Outcome<void> PartFile::commit(std::uint32_t mode) {
  // Rounded down, also before 1970, and without a product that could be less than there is.
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t rest = source_.mtime_ns % kSecond;
  const timespec modified{static_cast<time_t>(source_.mtime_ns / kSecond - (rest < 0 ? 1 : 0)), static_cast<long>(rest < 0 ? rest + kSecond : rest)};
  const timespec times[2] = {{0, UTIME_OMIT}, modified};
  if (::fchmod(part_.get(), mode & 0777) != 0) return failed(errno, "cannot set the mode of");
  if (::futimens(part_.get(), times) != 0) return failed(errno, "cannot set the time of");
  if (::fsync(part_.get()) != 0) return failed(errno, "cannot write");
  if (!is_at(part_, part_name()))
    return failure(FailureCode::kChanged, fmt::format("the partial file of \"{}\" was moved or replaced during the transfer", printable(shown_)));
  const int directory = place_.directory.get();
  if (::renameat(directory, part_name().c_str(), directory, place_.name.c_str()) != 0) return failed(errno, "cannot give its name to");
  part_.reset();
  (void)::unlinkat(directory, info_name().c_str(), 0);
  if (::fsync(directory) != 0) return failed(errno, "cannot make durable");
  return {};
}

void PartFile::discard() {
  if (!part_) return;
  if (is_at(part_, part_name())) (void)::unlinkat(place_.directory.get(), part_name().c_str(), 0);
  (void)::unlinkat(place_.directory.get(), info_name().c_str(), 0);
  part_.reset();
  info_.reset();
}

}  // namespace stp
