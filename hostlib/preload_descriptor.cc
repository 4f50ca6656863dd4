#include "hostlib/preload_descriptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "hostlib/preload_hold.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"

namespace stp::run {

std::uint32_t random_number() {
  std::uint32_t number = 0;
  (void)!::getrandom(&number, sizeof number, GRND_NONBLOCK);
  return number;
}

std::uint16_t some_port() {
  constexpr std::uint16_t kFirstOwnPort = 32768, kOwnPorts = 28232;  // as the kernel's ip_local_port_range
  return static_cast<std::uint16_t>(kFirstOwnPort + random_number() % kOwnPorts);
}

std::optional<SocketName> name_of(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  const int kept = errno;
  const bool good = real_getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  errno = kept;
  return good ? decode(reinterpret_cast<const sockaddr*>(&address), length) : std::nullopt;
}

int int_option(int fd, int level, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  return real_getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
}

// The mark may be of a socket that had this number before.
bool connecting(int fd) { return marked(fd, Mark::kConnecting) && int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX; }

bool ours(int fd) {
  const int kept = errno;
  const bool is = name_of(fd).has_value() || connecting(fd);
  errno = kept;
  return is;
}

bool unconnected(int fd) {
  const int kept = errno;
  const auto name = name_of(fd);
  sockaddr_storage peer = {};
  socklen_t length = sizeof peer;
  const bool is = name && (name->kind == SocketName::Kind::kFailed || real_getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0);
  errno = kept;
  return is;
}

bool is_internet_stream(int fd) {
  const int kept = errno;
  const int domain = int_option(fd, SOL_SOCKET, SO_DOMAIN);
  const bool is = (domain == AF_INET || domain == AF_INET6) && int_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
  errno = kept;
  return is;
}

bool is_v6(int fd) {
  if (const auto name = name_of(fd)) return name->v6;
  return marked(fd, Mark::kV6) || int_option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6;
}

bool nonblocking(int fd) { return (real_fcntl(fd, F_GETFL) & O_NONBLOCK) != 0; }

void copy_option(int from, int to, int option, socklen_t size) {
  unsigned char value[sizeof(timeval)] = {};
  if (real_getsockopt(from, SOL_SOCKET, option, value, &size) != 0) return;
  const bool is_set = std::any_of(value, value + size, [](unsigned char byte) { return byte != 0; });  // nothing is in a new socket
  if (is_set) (void)real_setsockopt(to, SOL_SOCKET, option, value, size);
}

void copy_options(int from, int to) {
  static_assert(sizeof(linger) <= sizeof(timeval));
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) copy_option(from, to, option, sizeof(timeval));
  copy_option(from, to, SO_LINGER, sizeof(linger));
  copy_option(from, to, SO_KEEPALIVE, sizeof(int));
}

namespace {

// The other numbers that the program has for the socket at `fd`, as far as dup(2) and its like made them in this process.
std::vector<int> copies_of(int fd) {
  std::vector<int> copies;
  struct stat mine = {}, other = {};
  if (!marked(fd, Mark::kCopied) || ::fstat(fd, &mine) != 0) return copies;
  for (const int each : all_marked(Mark::kCopied))
    if (each != fd && ::fstat(each, &other) == 0 && other.st_dev == mine.st_dev && other.st_ino == mine.st_ino) copies.push_back(each);
  return copies;
}

// What goes from the socket that had the number to the one that takes it.
struct Kept {
  bool v6 = false, no_delay = false, copied = false, noted = false;
  Now now{};
  bool stp = true;
};

bool take_number(int from, int to, const Kept& kept) {
  const int flags = real_fcntl(to, F_GETFD);
  let_go(to);
  if (flags < 0 || real_dup3(from, to, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) < 0) return false;
  clear_marks(to);
  set_mark(to, Mark::kV6, kept.v6);
  set_mark(to, Mark::kNoDelay, kept.no_delay);
  set_mark(to, Mark::kHere, marked(from, Mark::kHere));
  set_mark(to, Mark::kStp, kept.stp);
  set_mark(to, Mark::kYoung, kept.now != Now::kConnected);
  set_mark(to, Mark::kAlone, kept.now == Now::kBound);
  set_mark(to, Mark::kCopied, kept.now != Now::kConnected && kept.copied);
  set_mark(to, Mark::kNoted, kept.noted);
  register_again(to);
  if (kept.now == Now::kConnected) forget_epoll(to);
  return true;
}

}  // namespace

int install(int from, int to, Now now) {
  const int flags = real_fcntl(to, F_GETFL);
  if (flags < 0) return errno;
  (void)real_fcntl(from, F_SETFL, flags & (O_NONBLOCK | O_ASYNC));
  copy_options(to, from);
  const std::vector<int> copies = copies_of(to);
  Kept kept{.v6 = is_v6(to),
            .no_delay = marked(to, Mark::kNoDelay) || int_option(to, IPPROTO_TCP, TCP_NODELAY) > 0,
            .copied = !copies.empty(),
            .noted = marked(to, Mark::kNoted),
            .now = now,
            .stp = int_option(from, SOL_SOCKET, SO_DOMAIN) == AF_UNIX};
  const int code = take_number(from, to, kept) ? 0 : errno;
  if (code == 0)
    for (const int copy : copies) {
      kept.noted = marked(copy, Mark::kNoted);
      (void)take_number(from, copy, kept);
    }
  (void)::close(from);
  return code;
}

int unix_socket() { return real_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }

bool bind_to(int fd, const SocketName& name) {
  const UnixName text = encode(name);
  return real_bind(fd, text.get(), text.length) == 0;
}

uid_t user_of(int fd) {
  ucred who = {};
  socklen_t length = sizeof who;
  return real_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 ? who.uid : static_cast<uid_t>(-1);
}

}  // namespace stp::run
