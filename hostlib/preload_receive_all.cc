#include "hostlib/preload_receive_all.h"

#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "hostlib/preload_accept.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"

namespace stp::run {
namespace {

std::int64_t now_ms() {
  timespec now = {};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// For poll(2), of what SO_RCVTIMEO allows the whole call.
class Patience {
 public:
  Patience(int fd, int flags) {
    timeval limit = {};
    socklen_t length = sizeof limit;
    if ((flags & MSG_DONTWAIT) != 0 || nonblocking(fd))
      until_ms_ = 0;
    else if (real_getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &length) == 0 && (limit.tv_sec != 0 || limit.tv_usec != 0))
      until_ms_ = now_ms() + std::int64_t{limit.tv_sec} * 1000 + limit.tv_usec / 1000;
  }
  int left_ms() const { return until_ms_ < 0 ? -1 : static_cast<int>(std::clamp(until_ms_ - now_ms(), std::int64_t{0}, std::int64_t{INT_MAX})); }

 private:
  std::int64_t until_ms_ = -1;
};

void skip(std::vector<iovec>& parts, std::size_t bytes) {
  std::size_t whole = 0;
  while (whole < parts.size() && parts[whole].iov_len <= bytes) bytes -= parts[whole++].iov_len;
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(whole));
  if (parts.empty()) return;
  parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + bytes;
  parts.front().iov_len -= bytes;
}

// Nothing is there and nothing will come: an end or an error, which is for the next call to tell.
bool is_over(int fd, short events) {
  int there = 0;
  return (events & (POLLRDHUP | POLLHUP | POLLERR)) != 0 && (real_ioctl(fd, FIONREAD, &there) != 0 || there == 0);
}

}  // namespace

bool receives_all(int fd, int flags) { return (flags & MSG_WAITALL) != 0 && (flags & MSG_PEEK) == 0 && conversation_of(fd); }

ssize_t receive_all(int fd, msghdr* message, int flags) {
  const Patience patience(fd, flags);
  flags &= ~MSG_WAITALL;
  ssize_t got = real_recvmsg(fd, message, flags);
  if (got <= 0) return got;
  const int kept = errno;
  std::vector<iovec> rest(message->msg_iov, message->msg_iov + message->msg_iovlen);
  skip(rest, static_cast<std::size_t>(got));
  while (!rest.empty()) {
    pollfd look = {.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
    if (::poll(&look, 1, patience.left_ms()) <= 0 || is_over(fd, look.revents)) break;
    msghdr more = {};
    more.msg_iov = rest.data();
    more.msg_iovlen = rest.size();
    const ssize_t n = real_recvmsg(fd, &more, flags | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;  // another thread took it
    if (n <= 0) break;
    got += n;
    skip(rest, static_cast<std::size_t>(n));
  }
  errno = kept;
  return got;
}

ssize_t receive_all(int fd, void* into, size_t size, int flags) {
  iovec part = {.iov_base = into, .iov_len = size};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return receive_all(fd, &message, flags);
}

}  // namespace stp::run
