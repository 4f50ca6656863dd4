#include "hostlib/preload_reset.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cerrno>
#include <climits>
#include <optional>

#include "hostlib/preload_accept.h"
#include "hostlib/preload_connect.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_options.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_receive_all.h"
#include "hostlib/preload_state.h"

namespace stp::run {
namespace {

// Nothing: it is no conversation with a program of this host.
std::optional<SocketName> conversation_here(int fd) {
  const auto name = conversation_of(fd);
  return name && name->stays_here() ? name : std::nullopt;
}

bool is_hung_up(int fd) {
  pollfd look = {.fd = fd, .events = 0, .revents = 0};
  return ::poll(&look, 1, 0) == 1 && (look.revents & POLLHUP) != 0;
}

// Anybody may listen under that name: the agent is asked for, by its user.
bool is_marked(const SocketName& mark) {
  const int look = real_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (look < 0) return false;
  const UnixName name = encode(mark);
  const bool there = real_connect(look, name.get(), name.length) == 0 && is_of_agent(look);
  (void)real_close(look);
  return there;
}

}  // namespace

bool takes_reset(int fd) {
  if (!marked(fd, Mark::kHere) || marked(fd, Mark::kToldReset)) return false;  // no call of the kernel for what is no business of ours: a program may be kept from it
  const int kept = errno;
  const auto conversation = conversation_here(fd);
  const bool reset = conversation && is_hung_up(fd) && is_marked(conversation->aborted_by(user_of(fd), !accepted(fd)));
  if (reset) set_mark(fd, Mark::kToldReset, true);
  errno = kept;
  return reset;
}

void ends_itself(int fd) {
  const int kept = errno;
  if (marked(fd, Mark::kHere) && !is_hung_up(fd)) set_mark(fd, Mark::kToldReset, true);
  errno = kept;
}

void ends_in_good_order(int fd, int how) {
  constexpr linger kInGoodOrder = {};
  if (how == SHUT_RD || !marked(fd, Mark::kResets)) return;
  const int kept = errno;
  if (how == SHUT_RDWR || conversation_here(fd)) tell_of_linger(fd, &kInGoodOrder);
  errno = kept;
}

bool ends_alone(int fd, ssize_t got) { return (got == 0 || errno == EINVAL) && marked(fd, Mark::kAlone) && unconnected(fd); }

void tell_of_connect(int fd) {
  const int kept = errno, code = connecting(fd) ? outcome(fd) : 0;
  if (code != EALREADY) set_mark(fd, Mark::kConnecting, false);
  errno = code == 0 || code == EALREADY ? kept : code;
}

}  // namespace stp::run

#ifndef STP_BSD_NAMES
// The calls that read, by their symbols: the C library's headers may have inline functions of these names. Nothing is done but where nothing came.
#define STP_READS(result, name, parameters) \
  __attribute__((visibility("default"))) result answer_##name parameters __asm__(#name); \
  result answer_##name parameters

namespace {

ssize_t read_or_reset(int fd, ssize_t got, bool wanted) {
  if (got <= 0 && stp::run::ends_alone(fd, got)) {
    errno = ENOTCONN;
    return -1;
  }
  if (got < 0 && errno == ECONNRESET && stp::run::marked(fd, stp::run::Mark::kConnecting)) stp::run::tell_of_connect(fd);
  if (got != 0 || !wanted || !stp::run::takes_reset(fd)) return got;
  errno = ECONNRESET;
  return -1;
}

}  // namespace

using namespace stp::run;

extern "C" {

STP_READS(ssize_t, read, (int fd, void* into, size_t size)) {
  const ssize_t got = real_read(fd, into, size);
  return size == 0 ? got : read_or_reset(fd, got, true);
}

STP_READS(ssize_t, readv, (int fd, const iovec* parts, int count)) {
  const ssize_t got = real_readv(fd, parts, count);
  const bool sound = parts != nullptr && count <= IOV_MAX;
  bool wanted = false;
  for (int i = 0; got <= 0 && sound && i < count; ++i) wanted |= parts[i].iov_len != 0;
  return !wanted ? got : read_or_reset(fd, got, wanted);
}

STP_READS(ssize_t, recv, (int fd, void* into, size_t size, int flags)) {
  return read_or_reset(fd, receives_all(fd, flags) ? receive_all(fd, into, size, flags) : real_recv(fd, into, size, flags), size != 0);
}

STP_READS(ssize_t, recvfrom, (int fd, void* into, size_t size, int flags, sockaddr* from, socklen_t* length)) {
  const bool all = receives_all(fd, flags);
  if (all && from != nullptr && length != nullptr) *length = 0;  // as TCP says who it comes from
  return read_or_reset(fd, all ? receive_all(fd, into, size, flags) : real_recvfrom(fd, into, size, flags, from, length), size != 0);
}

STP_READS(ssize_t, recvmsg, (int fd, msghdr* message, int flags)) {
  const ssize_t got = receives_all(fd, flags) ? receive_all(fd, message, flags) : real_recvmsg(fd, message, flags);
  bool wanted = false;
  for (size_t i = 0; got == 0 && i < message->msg_iovlen; ++i) wanted |= message->msg_iov[i].iov_len != 0;
  return read_or_reset(fd, got, wanted);
}

// What _FORTIFY_SOURCE makes of them. Where the room is too small, the C library ends the program.
STP_READS(ssize_t, __read_chk, (int fd, void* into, size_t size, size_t room)) { return size <= room ? answer_read(fd, into, size) : real_read_chk(fd, into, size, room); }

STP_READS(ssize_t, __recv_chk, (int fd, void* into, size_t size, size_t room, int flags)) {
  return size <= room ? answer_recv(fd, into, size, flags) : real_recv_chk(fd, into, size, room, flags);
}

STP_READS(ssize_t, __recvfrom_chk, (int fd, void* into, size_t size, size_t room, int flags, sockaddr* from, socklen_t* length)) {
  return size <= room ? answer_recvfrom(fd, into, size, flags, from, length) : real_recvfrom_chk(fd, into, size, room, flags, from, length);
}

}  // extern "C"
#endif
