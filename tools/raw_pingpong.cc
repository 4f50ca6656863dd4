#include "tools/raw_pingpong.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "stp/medium.h"
#include "tools/own_processors.h"

namespace stp {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t kEnd = ~0ull;
constexpr std::uint64_t kApart = 1 << 20;  // the two blocks are no neighbours on the device

// One player's view: a block that it writes, a block that it reads.
struct Player {
  int fd;
  std::uint64_t mine, theirs;
  AlignedBuffer out, in;

  int say(std::uint64_t number) {
    store_le(out.data(), number);
    const ssize_t n = ::pwrite(fd, out.data(), out.size(), static_cast<off_t>(mine));
    return n == static_cast<ssize_t>(out.size()) ? 0 : (n < 0 ? errno : EIO);
  }
  int hear(std::uint64_t& number) {
    const ssize_t n = ::pread(fd, in.data(), in.size(), static_cast<off_t>(theirs));
    number = load_le<std::uint64_t>(in.data());
    return n == static_cast<ssize_t>(in.size()) ? 0 : (n < 0 ? errno : EIO);
  }
};

// The other process: repeats what it hears until the end is said.
int repeat(Player& player) {
  std::uint64_t last = 0;
  for (;;) {
    std::uint64_t heard = 0;
    if (player.hear(heard) != 0) return 1;
    if (heard == last) continue;
    if (heard == kEnd) return 0;
    last = heard;
    if (player.say(heard) != 0) return 1;
  }
}

int play(Player& player, pid_t other, Clock::time_point end, std::vector<double>& times) {
  for (std::uint64_t number = 1; Clock::now() < end; ++number) {
    const Clock::time_point begin = Clock::now();
    if (const int error = player.say(number); error != 0) return error;
    for (std::uint64_t heard = 0, looks = 0; heard != number; ++looks) {
      if (const int error = player.hear(heard); error != 0) return error;
      if (looks % 1024 == 1023 && ::waitpid(other, nullptr, WNOHANG) != 0) return ECHILD;
    }
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  return player.say(kEnd);
}

}  // namespace

Result<std::vector<double>> raw_pingpong(const RawRange& range, std::size_t block_bytes, std::chrono::milliseconds duration) {
  const int fd = ::open(range.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return fail(error, fmt::format("\"{}\" can not be opened with O_DIRECT: {}", range.path, std::strerror(error)));
  }
  Player here{fd, range.offset, range.offset + kApart, AlignedBuffer(block_bytes), AlignedBuffer(block_bytes)};
  Player there{fd, range.offset + kApart, range.offset, AlignedBuffer(block_bytes), AlignedBuffer(block_bytes)};
  std::vector<double> times;
  times.reserve(1 << 16);
  int error = here.say(0);
  if (error == 0) error = there.say(0);
  const pid_t other = error == 0 ? ::fork() : -1;
  if (other == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const tools::OnHalf second(tools::Half::kSecond);
    ::_exit(repeat(there));
  }
  if (other > 0) {
    const tools::OnHalf first(tools::Half::kFirst);
    error = play(here, other, Clock::now() + duration, times);
    if (error != 0) ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
  } else if (error == 0) {
    error = errno;
  }
  ::close(fd);
  if (error != 0) return fail(error, fmt::format("raw ping-pong on \"{}\" failed: {}", range.path, std::strerror(error)));
  return times;
}

}  // namespace stp
