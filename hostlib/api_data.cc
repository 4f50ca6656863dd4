// STPsend, STPrecv, STPwritev, STPreadv.
#include <limits.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>

#include "hostlib/call.h"
#include "hostlib/deadline.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

// The lock is held while bytes are copied: not longer than this takes at a stretch, so that others get on.
constexpr std::size_t kCopyAtOnce = 256 * 1024;

struct Transfer {
  bool blocking;
  Nanos deadline;
};

Transfer transfer_of(const Socket& socket, int flags, Nanos timeout) {
  const bool blocking = !socket.nonblocking && (flags & MSG_DONTWAIT) == 0;
  return {blocking, blocking && timeout != 0 ? after(boottime_now(), timeout) : kNever};
}

// What a call gives that has moved `done` bytes when `error` came up: the bytes, and the error at the next call.
ssize_t partial_or_fail(Call& call, std::size_t done, const SocketError& error) {
  if (done == 0) return call.fail(error);
  if (error.code != EAGAIN && error.code != EINTR && error.code != EBADF) call.socket().told_later = error;
  return static_cast<ssize_t>(done);
}

bool take_told_later(Call& call) {
  SocketError& later = call.socket().told_later;
  if (later.code == 0) return false;
  const SocketError error = std::exchange(later, SocketError{});
  (void)call.fail(error);
  return true;
}

// `more` follows at once, in the same call: what is taken is not seen off before that has come.
ssize_t send_bytes(Call& call, ConstBytes data, int flags, bool more = false) {
  if (take_told_later(call)) return -1;
  Socket& socket = call.socket();
  const Transfer transfer = transfer_of(socket, flags, socket.send_timeout);
  std::size_t done = 0;
  bool looked = false;
  const bool clock = call.sockets().wants_time();
  do {
    const Nanos now = clock ? boottime_now() : 0;
    const auto taken = call.sockets().send(socket.id, data.subspan(done, std::min(data.size() - done, kCopyAtOnce)), now);
    if (taken) {
      done += *taken;
      if (more && done == data.size()) break;
      const bool patient = transfer.blocking && transfer.deadline == kNever;
      call.waiting().step(now, patient);
      if (patient) call.may_carry_out();
      continue;
    }
    if (taken.error().code != EAGAIN) return partial_or_fail(call, done, taken.error());
    if (!transfer.blocking) {
      if (looked) return partial_or_fail(call, done, {EAGAIN, Reason::kNone});
      call.waiting().step(now);  // acknowledgements may be there
      looked = true;
    } else if (const int code = call.wait(Ready::kWrite, transfer.deadline); code != 0) {
      return partial_or_fail(call, done, {code, Reason::kNone});
    }
  } while (done < data.size());
  return static_cast<ssize_t>(done);
}

ssize_t receive_bytes(Call& call, Bytes into, int flags) {
  if (take_told_later(call)) return -1;
  Socket& socket = call.socket();
  const Transfer transfer = transfer_of(socket, flags, socket.receive_timeout);
  const bool peek = (flags & MSG_PEEK) != 0;
  const bool all = (flags & MSG_WAITALL) != 0 && !peek;
  std::size_t done = 0;
  bool looked = false;
  const bool clock = call.sockets().wants_time();
  do {
    const Nanos now = clock ? boottime_now() : 0;
    const auto given = call.sockets().receive(socket.id, into.subspan(done), peek, now);
    if (given) {
      done += *given;
      if (!peek && *given != 0) call.waiting().step_soon(now, *given);
      if (*given == 0 || !all) break;
      continue;
    }
    if (given.error().code != EAGAIN) return partial_or_fail(call, done, given.error());
    if (!transfer.blocking) {
      if (looked) return partial_or_fail(call, done, {EAGAIN, Reason::kNone});
      call.waiting().step(now);
      looked = true;
    } else if (const int code = call.wait(Ready::kRead, transfer.deadline); code != 0) {
      return partial_or_fail(call, done, {code, Reason::kNone});
    }
  } while (done < into.size());
  return static_cast<ssize_t>(done);
}

// As send(2): EPIPE comes with SIGPIPE, in the calling thread. Without the lock: a handler may make STP calls.
ssize_t with_signal(Call& call, ssize_t result, int flags) {
  if (result >= 0 || errno != EPIPE || (flags & MSG_NOSIGNAL) != 0) return result;
  call.waiting().let_go();
  call.lock().unlock();
  (void)::pthread_kill(::pthread_self(), SIGPIPE);
  errno = EPIPE;
  return result;
}

// 0, or the errno of an iovec array that is no valid one. `total`: its bytes.
int wrong_vector(const struct iovec* parts, int count, std::size_t& total) {
  if (count < 0 || count > IOV_MAX) return EINVAL;
  if (parts == nullptr && count > 0) return EFAULT;
  total = 0;
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len > static_cast<std::size_t>(SSIZE_MAX) - total) return EINVAL;
    total += parts[i].iov_len;
  }
  return 0;
}

// Bytes that are nowhere: what else is wrong, or that nothing is there, comes before that is noticed.
ssize_t send_nothing(Call& call, int flags) {
  const ssize_t sent = send_bytes(call, {}, flags);
  return sent < 0 ? sent : call.fail(EFAULT);
}

ssize_t receive_nowhere(Call& call, int flags) {
  std::byte somewhere{};
  const ssize_t got = receive_bytes(call, {&somewhere, 1}, flags | MSG_PEEK | MSG_DONTWAIT);
  const bool would_wait = got < 0 && errno == EAGAIN && !call.socket().nonblocking && (flags & MSG_DONTWAIT) == 0;
  return got > 0 || would_wait ? call.fail(EFAULT) : got;
}

ssize_t send_part(Call& call, const void* data, size_t length, int flags, bool more = false) {
  if (data == nullptr && length > 0) return send_nothing(call, flags);
  return send_bytes(call, {static_cast<const std::byte*>(data), std::min<size_t>(length, SSIZE_MAX)}, flags, more);
}

ssize_t receive_part(Call& call, void* into, size_t length, int flags) {
  if (into == nullptr && length > 0) return receive_nowhere(call, flags);
  return receive_bytes(call, {static_cast<std::byte*>(into), std::min<size_t>(length, SSIZE_MAX)}, flags);
}

}  // namespace
}  // namespace stp::host

using stp::host::Call;

ssize_t STPsend(int s, const void* data, size_t length, int flags) {
  Call call("send to", s, Call::Check::kData);
  if (!call.good()) return -1;
  if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) != 0) return call.fail(EOPNOTSUPP);
  return stp::host::with_signal(call, stp::host::send_part(call, data, length, flags), flags);
}

ssize_t STPrecv(int s, void* into, size_t length, int flags) {
  Call call("receive from", s, Call::Check::kData);
  if (!call.good()) return -1;
  if ((flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_WAITALL)) != 0) return call.fail(EOPNOTSUPP);
  return stp::host::receive_part(call, into, length, flags);
}

ssize_t STPwritev(int s, const struct iovec* data, int count) {
  Call call("send to", s, Call::Check::kData);
  if (!call.good()) return -1;
  std::size_t left = 0;
  if (const int code = stp::host::wrong_vector(data, count, left); code != 0) return call.fail(code);
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    if (data[i].iov_len == 0) continue;
    left -= data[i].iov_len;
    // One send to the peer, as far as there is room: what happens meanwhile is not seen between the parts.
    const ssize_t sent = stp::host::send_part(call, data[i].iov_base, data[i].iov_len, 0, left > 0);
    if (sent < 0) return total > 0 ? total : stp::host::with_signal(call, sent, 0);
    total += sent;
    if (static_cast<size_t>(sent) < data[i].iov_len) break;
  }
  return total;
}

ssize_t STPreadv(int s, const struct iovec* into, int count) {
  Call call("receive from", s, Call::Check::kData);
  if (!call.good()) return -1;
  std::size_t bytes = 0;
  if (const int code = stp::host::wrong_vector(into, count, bytes); code != 0) return call.fail(code);
  ssize_t total = 0;
  for (int i = 0; i < count; ++i) {
    if (into[i].iov_len == 0) continue;
    // Only the first part waits: what follows takes what is there.
    const int flags = total > 0 ? MSG_DONTWAIT : 0;
    const ssize_t got = stp::host::receive_part(call, into[i].iov_base, into[i].iov_len, flags);
    if (got < 0) return total > 0 ? total : got;
    total += got;
    if (static_cast<size_t>(got) < into[i].iov_len) break;
  }
  return total;
}
