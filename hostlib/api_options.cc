// STPgetsockopt, STPsetsockopt, STPgetopt, STPsetopt.
#include <limits.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "hostlib/call.h"
#include "hostlib/own_address.h"
#include "hostlib/program_options.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

constexpr int kSmallestBuffer = 4096;
constexpr int kLargestBuffer = 64 << 20;

// -- Values in and out ---------------------------------------------------------------------------------------------

// 0, or the errno of an answer that has no place.
int wrong_room(const void* value, const socklen_t* length) {
  if (length == nullptr) return EFAULT;
  if (*length > INT_MAX) return EINVAL;
  return value == nullptr && *length != 0 ? EFAULT : 0;
}

// As getsockopt: copies what fits, and says how much that was.
template <class T>
int store(Call& call, const T& from, void* value, socklen_t* length) {
  if (const int code = wrong_room(value, length); code != 0) return call.fail(code);
  const std::size_t size = std::min<std::size_t>(*length, sizeof from);
  if (size != 0) std::memcpy(value, &from, size);
  *length = static_cast<socklen_t>(size);
  return 0;
}

template <class T>
std::optional<T> load(const void* value, socklen_t length) {
  if (value == nullptr || length < sizeof(T)) return std::nullopt;
  T out;
  std::memcpy(&out, value, sizeof out);
  return out;
}

struct timeval to_timeval(Nanos span) {
  struct timeval out = {};
  out.tv_sec = static_cast<time_t>(span / kSecond);
  out.tv_usec = static_cast<suseconds_t>(span % kSecond / kMicrosecond);
  return out;
}

// EDOM as Linux says it for microseconds that are none. Negative seconds: do not wait, which a nanosecond does.
std::expected<Nanos, int> to_nanos(const struct timeval& from) {
  if (from.tv_usec < 0 || from.tv_usec >= 1'000'000) return std::unexpected(EDOM);
  if (from.tv_sec < 0) return 1;
  if (from.tv_sec > kNever / kSecond / 2) return 0;  // for ever
  return static_cast<Nanos>(from.tv_sec) * kSecond + static_cast<Nanos>(from.tv_usec) * kMicrosecond;
}

// -- SOL_SOCKET ----------------------------------------------------------------------------------------------------

int take_error_code(Call& call) {
  Socket& socket = call.socket();
  call.waiting().step(boottime_now());
  SocketError error = std::exchange(socket.told_later, SocketError{});
  if (error.code == 0) error = call.sockets().take_error(socket.id);
  if (error.code != 0) {
    const int before = errno;
    (void)call.fail(error);  // so that STPstrerror has the words
    errno = before;
  }
  return error.code;
}

int get_socket_option(Call& call, int option, void* value, socklen_t* length) {
  if (length == nullptr || *length > INT_MAX) return call.fail(length == nullptr ? EFAULT : EINVAL);
  const Socket& socket = call.socket();
  const EngineConfig defaults;
  const auto or_default = [](int bytes, std::uint32_t otherwise) { return bytes != 0 ? bytes : static_cast<int>(otherwise); };
  switch (option) {
    case SO_ERROR:
      if (const int code = wrong_room(value, length); code != 0) return call.fail(code);
      return store(call, take_error_code(call), value, length);
    case SO_TYPE: return store(call, static_cast<int>(SOCK_STREAM), value, length);
    case SO_DOMAIN: return store(call, static_cast<int>(AF_STP), value, length);
    case SO_PROTOCOL: return store(call, static_cast<int>(PF_STP), value, length);
    case SO_ACCEPTCONN: return store(call, socket.listening ? 1 : 0, value, length);
    case SO_SNDBUF: return store(call, or_default(socket.send_buffer_bytes, defaults.send_buffer_bytes), value, length);
    case SO_RCVBUF: return store(call, or_default(socket.receive_buffer_bytes, defaults.window_bytes), value, length);
    case SO_SNDTIMEO: return store(call, to_timeval(socket.send_timeout), value, length);
    case SO_RCVTIMEO: return store(call, to_timeval(socket.receive_timeout), value, length);
    case SO_LINGER: {
      struct linger linger = {};
      linger.l_onoff = socket.linger ? 1 : 0;
      linger.l_linger = socket.linger_s;
      return store(call, linger, value, length);
    }
    case SO_REUSEADDR: return store(call, socket.reuse_address ? 1 : 0, value, length);
    case SO_KEEPALIVE: return store(call, socket.keep_alive ? 1 : 0, value, length);
    default: return call.fail(ENOPROTOOPT);
  }
}

int set_timeout(Call& call, Nanos& timeout, const void* value, socklen_t length) {
  const auto given = load<struct timeval>(value, length);
  if (!given) return call.fail(EINVAL);
  const auto span = to_nanos(*given);
  if (!span) return call.fail(span.error());
  timeout = *span;
  return 0;
}

int set_linger(Call& call, const void* value, socklen_t length) {
  const auto given = load<struct linger>(value, length);
  if (!given || given->l_linger < 0) return call.fail(EINVAL);
  call.socket().linger = given->l_onoff != 0;
  call.socket().linger_s = given->l_linger;
  return 0;
}

int set_socket_option(Call& call, int option, const void* value, socklen_t length) {
  Socket& socket = call.socket();
  if (option == SO_SNDTIMEO) return set_timeout(call, socket.send_timeout, value, length);
  if (option == SO_RCVTIMEO) return set_timeout(call, socket.receive_timeout, value, length);
  if (option == SO_LINGER) return set_linger(call, value, length);
  const bool known = option == SO_SNDBUF || option == SO_RCVBUF || option == SO_REUSEADDR || option == SO_KEEPALIVE;
  if (!known) return call.fail(ENOPROTOOPT);
  const auto number = load<int>(value, length);
  if (!number) return call.fail(EINVAL);
  const int buffer = std::clamp(*number, kSmallestBuffer, kLargestBuffer);
  if (option == SO_SNDBUF) {
    socket.send_buffer_bytes = buffer;
    call.sockets().set_send_buffer(socket.id, static_cast<std::uint32_t>(buffer));
  } else if (option == SO_RCVBUF) {
    socket.receive_buffer_bytes = buffer;
    call.sockets().set_receive_window(socket.id, static_cast<std::uint32_t>(buffer));
  } else {
    (option == SO_REUSEADDR ? socket.reuse_address : socket.keep_alive) = *number != 0;
  }
  return 0;
}

// -- STP's own -----------------------------------------------------------------------------------------------------

int get_stp_option(Call& call, int option, void* value, socklen_t* length) {
  const Socket& socket = call.socket();
  switch (option) {
    case STP_OPT_CONNECT_WAITS_ACCEPT: return store(call, socket.connect_waits_accept ? 1 : 0, value, length);
    case STP_OPT_CONNECT_TIMEOUT_MS: return store(call, socket.connect_timeout_ms, value, length);
    case STP_OPT_SCB: {
      const auto info = call.sockets().info(socket.id);
      return info ? store(call, static_cast<int>(info->scb), value, length) : call.fail(info.error());
    }
    default: return call.fail(ENOPROTOOPT);
  }
}

int set_stp_option(Call& call, int option, int number) {
  if (option == STP_OPT_CONNECT_WAITS_ACCEPT)
    call.socket().connect_waits_accept = number != 0;
  else if (option == STP_OPT_CONNECT_TIMEOUT_MS)
    call.socket().connect_timeout_ms = number;
  else
    return call.fail(ENOPROTOOPT);
  return 0;
}

bool of_program(int option) { return option == STP_OPT_POLL_MAX_US || option == STP_OPT_INLINE_MAX || option == STP_OPT_SPIN_US; }

}  // namespace
}  // namespace stp::host

using stp::host::Call;

int STPgetsockopt(int s, int level, int option, void* value, socklen_t* length) {
  Call call("ask about", s, Call::Check::kTable);
  if (!call.good()) return -1;
  if (level != SOL_SOCKET) return call.fail(ENOPROTOOPT);
  return stp::host::get_socket_option(call, option, value, length);
}

int STPsetsockopt(int s, int level, int option, const void* value, socklen_t length) {
  Call call("set an option of", s, Call::Check::kTable);
  if (!call.good()) return -1;
  // As Linux, which reads an int before it looks at the option.
  if (length < sizeof(int) || length > INT_MAX) return call.fail(EINVAL);
  if (value == nullptr) return call.fail(EFAULT);
  if (level != SOL_SOCKET) return call.fail(ENOPROTOOPT);
  return stp::host::set_socket_option(call, option, value, length);
}

int STPgetopt(int s, int option, void* value, socklen_t* length) {
  if (s == -1 || stp::host::of_program(option)) {
    Call call("ask about the program's options");
    if (!call.good()) return -1;
    if (s != -1 && call.runtime().table().find(s) == nullptr) return call.fail(EBADF);
    if (!stp::host::of_program(option)) return call.fail(s == -1 ? EBADF : ENOPROTOOPT);
    return stp::host::store(call, call.runtime().options().get(option), value, length);
  }
  Call call("ask about", s, Call::Check::kTable);
  return call.good() ? stp::host::get_stp_option(call, option, value, length) : -1;
}

int STPsetopt(int s, int option, void* value, socklen_t length) {
  const auto number = stp::host::load<int>(value, length);
  if (s == -1 || stp::host::of_program(option)) {
    Call call("set the program's options");
    if (!call.good()) return -1;
    if (s != -1 && call.runtime().table().find(s) == nullptr) return call.fail(EBADF);
    if (!stp::host::of_program(option)) return call.fail(s == -1 ? EBADF : ENOPROTOOPT);
    if (!number || !call.runtime().options().set(option, *number)) return call.fail(EINVAL);
    if (call.runtime().host() != nullptr) call.runtime().options().apply(call.host());
    return 0;
  }
  Call call("set an option of", s, Call::Check::kTable);
  if (!call.good()) return -1;
  if (!number || *number < 0) return call.fail(EINVAL);
  return stp::host::set_stp_option(call, option, *number);
}
