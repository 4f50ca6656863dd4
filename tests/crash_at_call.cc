#include "tests/crash_at_call.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

namespace stp {
namespace {

constexpr int kDiedThere = 42;
constexpr std::size_t kAlignment = 4096;
constexpr std::size_t kSector = 512;

struct Unsynced {
  dev_t device;
  ino_t inode;
  off_t offset;
  std::vector<char> old;  // shorter than what was written, where that went beyond the end
  std::size_t written;
};

struct State {
  std::mutex mutex;  // calls of several threads, one after the other
  CrashAtCall crash;
  std::uint32_t calls = 0;
  int report = -1;  // a pipe
  std::vector<Unsynced> unsynced;
};
State* armed = nullptr;  // in a child that is to die

bool regular(int fd, struct stat* status) { return ::fstat(fd, status) == 0 && (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode)); }

// Memory that O_DIRECT takes.
std::unique_ptr<char, void (*)(void*)> aligned(std::size_t size) {
  const std::size_t whole = (size + kAlignment - 1) / kAlignment * kAlignment;
  return {static_cast<char*>(std::aligned_alloc(kAlignment, whole)), std::free};
}

ssize_t raw_write(int fd, const void* data, std::size_t size, off_t offset) { return ::syscall(SYS_pwrite64, fd, data, size, offset); }

std::vector<char> content(int fd, off_t offset, std::size_t size) {
  auto buffer = aligned(size);
  const ssize_t got = ::pread(fd, buffer.get(), size, offset);
  return got <= 0 ? std::vector<char>() : std::vector<char>(buffer.get(), buffer.get() + got);
}

void put_back(int fd, off_t offset, const std::vector<char>& old) {
  if (old.empty()) return;
  auto buffer = aligned(old.size());
  std::memcpy(buffer.get(), old.data(), old.size());
  (void)!raw_write(fd, buffer.get(), old.size(), offset);
}

[[noreturn]] void die(int fd) {
  const auto count = static_cast<std::uint32_t>(armed->unsynced.size());
  struct stat status {};
  if (armed->crash.machine_dies && fd >= 0 && regular(fd, &status)) {
    for (std::size_t i = count; i > 0; --i) {
      const Unsynced& u = armed->unsynced[i - 1];
      const bool lands = i > 64 || (armed->crash.landing >> (i - 1) & 1) != 0;
      if (!lands && u.device == status.st_dev && u.inode == status.st_ino) put_back(fd, u.offset, u.old);
    }
  }
  (void)!::syscall(SYS_write, armed->report, &count, sizeof count);
  ::_exit(kDiedThere);
}

// One call that changes something: `act` does it, `part` a part of it.
template <class Act, class Part>
auto call(int fd, Act act, Part part) {
  if (armed == nullptr) return act();
  std::lock_guard lock(armed->mutex);
  const bool fatal = armed->calls++ == armed->crash.call;
  if (fatal && armed->crash.when == CrashAtCall::When::kDuring) part();
  if (fatal && armed->crash.when != CrashAtCall::When::kAfter) die(fd);
  const auto result = act();
  const int error = errno;
  if (fatal) die(fd);
  errno = error;
  return result;
}

template <class Act>
auto call(int fd, Act act) {
  return call(fd, act, [] {});
}

ssize_t write_at(int fd, const void* data, std::size_t size, off_t offset, bool moves) {
  struct stat status {};
  const auto write = [=] { return moves ? ::syscall(SYS_write, fd, data, size) : raw_write(fd, data, size, offset); };
  if (armed == nullptr || !regular(fd, &status)) return write();
  return call(
      fd,
      [&] {
        armed->unsynced.push_back({status.st_dev, status.st_ino, offset, content(fd, offset, size), size});
        return write();
      },
      [&] {
        // Every other sector, and the rest stays as it was.
        const std::vector<char> old = content(fd, offset, size);
        auto mixed = aligned(size);
        std::memcpy(mixed.get(), data, size);
        for (std::size_t at = kSector; at < old.size(); at += 2 * kSector) std::memcpy(mixed.get() + at, old.data() + at, std::min(kSector, old.size() - at));
        // Beyond the end of the file there is nothing that could stay.
        const std::size_t half = old.empty() && size > 1 ? size / 2 : size;
        (void)!raw_write(fd, mixed.get(), half, offset);
      });
}

}  // namespace

CrashedChild run_and_crash(const CrashAtCall& crash, const std::function<int()>& work) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  (void)std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    auto* state = new State;
    state->crash = crash;
    state->report = ends[1];
    armed = state;
    const int status = work();
    armed = nullptr;
    ::_exit(status);
  }
  ::close(ends[1]);
  CrashedChild out;
  const bool told = ::read(ends[0], &out.writes_unsynced, sizeof out.writes_unsynced) == static_cast<ssize_t>(sizeof out.writes_unsynced);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  out.died = told && WIFEXITED(status) && WEXITSTATUS(status) == kDiedThere;
  out.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

}  // namespace stp

// -- The calls. (64-bit offsets: these names are those of the C library's 64-bit ones.)

using stp::call;

ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) { return stp::write_at(fd, data, size, offset, false); }

ssize_t write(int fd, const void* data, size_t size) {
  return stp::write_at(fd, data, size, stp::armed == nullptr ? 0 : ::lseek(fd, 0, SEEK_CUR), true);
}

int fsync(int fd) {
  return call(fd, [fd] {
    const auto result = static_cast<int>(::syscall(SYS_fsync, fd));
    struct stat status {};
    if (stp::armed != nullptr && ::fstat(fd, &status) == 0)
      std::erase_if(stp::armed->unsynced, [&](const auto& u) { return u.device == status.st_dev && u.inode == status.st_ino; });
    return result;
  });
}

int ftruncate(int fd, off_t size) noexcept {
  return call(fd, [=] { return static_cast<int>(::syscall(SYS_ftruncate, fd, size)); });
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  return call(fd, [=] { return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size)); });
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
  return call(-1, [=] { return static_cast<int>(::syscall(SYS_renameat2, from_directory, from, to_directory, to, 0)); });
}

int unlinkat(int directory, const char* name, int flags) noexcept {
  return call(-1, [=] { return static_cast<int>(::syscall(SYS_unlinkat, directory, name, flags)); });
}

int fchmod(int fd, mode_t mode) noexcept {
  return call(fd, [=] { return static_cast<int>(::syscall(SYS_fchmod, fd, mode)); });
}

int futimens(int fd, const struct timespec times[2]) noexcept {
  return call(fd, [=] { return static_cast<int>(::syscall(SYS_utimensat, fd, nullptr, times, 0)); });
}

int openat(int directory, const char* name, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  const auto open = [=] { return static_cast<int>(::syscall(SYS_openat, directory, name, flags, mode)); };
  return (flags & O_CREAT) == 0 ? open() : call(-1, open);
}
