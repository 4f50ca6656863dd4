#include "stp/system.h"

#include <fcntl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace stp {
namespace {

// Fills all of it. Only a kernel before 3.17, or a filter that kills getrandom, can fail here for good: /dev/urandom is the
// way then, and without that too there is no identity that could be trusted.
void fill_random(void* into, std::size_t size) {
  auto* at = static_cast<char*>(into);
  while (size > 0) {
    ssize_t n = ::getrandom(at, size, 0);
    if (n < 0 && errno != EINTR) {
      const int fd = ::open("/dev/urandom", O_RDONLY | O_CLOEXEC);
      n = fd < 0 ? -1 : ::read(fd, at, size);
      if (fd >= 0) ::close(fd);
      if (n <= 0) std::abort();
    }
    if (n <= 0) continue;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

std::optional<Uuid> read_boot_id() {
  const int fd = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  char text[64] = {};
  const ssize_t length = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  Uuid id{};
  std::size_t digits = 0;
  for (ssize_t i = 0; i < length && digits < 32; ++i) {
    const int digit = hex_digit(text[i]);
    if (digit < 0) continue;
    id[digits / 2] |= static_cast<std::byte>(digits % 2 == 0 ? digit << 4 : digit);
    ++digits;
  }
  if (digits != 32) return std::nullopt;
  return id;
}

Nanos read_clock(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<Nanos>(t.tv_sec) * kSecond + t.tv_nsec;
}

}  // namespace

Nanos boottime_now() { return read_clock(CLOCK_BOOTTIME); }

std::uint64_t wall_clock_ms() { return static_cast<std::uint64_t>(read_clock(CLOCK_REALTIME) / kMillisecond); }

const Uuid& boot_id() {
  static const Uuid id = [] {
    if (auto read = read_boot_id()) return *read;
    Uuid random{};
    fill_random(random.data(), random.size());
    return random;
  }();
  return id;
}

std::uint64_t SystemRandom::next() {
  if (at_ == buffer_.size()) {
    fill_random(buffer_.data(), sizeof buffer_);
    at_ = 0;
  }
  return buffer_[at_++];
}

}  // namespace stp
