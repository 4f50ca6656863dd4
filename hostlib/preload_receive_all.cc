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

#include "hostlib/preload_accept.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"

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

// Where in the parts of a message the next byte goes.
class Place {
 public:
  Place(const msghdr& message, std::size_t bytes) : message_(message) { skip(bytes); }
  bool is_end() const { return part_ == message_.msg_iovlen; }
  iovec rest_of_part() const { return {.iov_base = static_cast<char*>(part().iov_base) + at_, .iov_len = part().iov_len - at_}; }
  void skip(std::size_t bytes) {
    at_ += bytes;
    while (!is_end() && at_ >= part().iov_len) at_ -= message_.msg_iov[part_++].iov_len;
  }

 private:
  const iovec& part() const { return message_.msg_iov[part_]; }

  const msghdr& message_;
  std::size_t part_ = 0, at_ = 0;
};

// Nothing is there and nothing will come: an end or an error, which is for the next call to tell.
bool is_over(int fd, short events) {
  int there = 0;
  return (events & (POLLRDHUP | POLLHUP | POLLERR)) != 0 && (real_ioctl(fd, FIONREAD, &there) != 0 || there == 0);
}

}  // namespace

bool receives_all(int fd, int flags) { return (flags & MSG_WAITALL) != 0 && (flags & MSG_PEEK) == 0 && marked(fd, Mark::kStp) && conversation_of(fd); }

ssize_t receive_all(int fd, msghdr* message, int flags) {
  const Patience patience(fd, flags);
  flags &= ~MSG_WAITALL;
  ssize_t got = real_recvmsg(fd, message, flags);
  if (got <= 0) return got;
  const int kept = errno;
  for (Place place(*message, static_cast<std::size_t>(got)); !place.is_end();) {
    pollfd look = {.fd = fd, .events = POLLIN | POLLRDHUP, .revents = 0};
    if (::poll(&look, 1, patience.left_ms()) <= 0 || is_over(fd, look.revents)) break;
    const iovec rest = place.rest_of_part();
    const ssize_t n = real_recv(fd, rest.iov_base, rest.iov_len, flags | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) continue;  // another thread took it
    if (n <= 0) break;
    got += n;
    place.skip(static_cast<std::size_t>(n));
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
