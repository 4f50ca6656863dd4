// A stand-in for libstp, for tests of the tools alone: the STP calls of hostlib/stp.h over abstract AF_UNIX sockets of this machine.
// With it the file transfer protocol and the pipe are tested without storage and in no time. It proves nothing about STP itself;
// the end-to-end tests use the real library.
//
// STP_STG (any text) and STP_HOST name the address space and the host, as with the library.
#include "tests/tools/unix_shim.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "hostlib/in_place.h"
#include "hostlib/stp.h"

namespace {

std::atomic<std::size_t> corrupt_offset{0};
std::mutex sockets_mutex;
struct Known {
  in_port_t port = 0;
  std::size_t sent = 0;
};
std::map<int, Known> sockets;

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// The abstract name of HOST:PORT.
socklen_t unix_address(const std::string& host, in_port_t port, sockaddr_un* out) {
  *out = {};
  out->sun_family = AF_UNIX;
  const std::string name = "stp-shim/" + environment("STP_STG", "none") + "/" + host + "/" + std::to_string(ntohs(port));
  const std::size_t length = std::min(name.size(), sizeof out->sun_path - 1);
  std::memcpy(out->sun_path + 1, name.data(), length);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

void fill(sockaddr* address, socklen_t* length, const std::string& host, in_port_t port) {
  if (address == nullptr || length == nullptr) return;
  sockaddr_stp out{};
  out.stp_family = AF_STP;
  out.stp_port = port;
  std::snprintf(out.stp_system, sizeof out.stp_system, "%s", host.c_str());
  std::memcpy(address, &out, std::min<std::size_t>(*length, sizeof out));
  *length = sizeof out;
}

}  // namespace

namespace stp::shim {
void corrupt_sent_byte(std::size_t offset) { corrupt_offset = offset; }
}  // namespace stp::shim

extern "C" {

int STPsocket(int, int type, int) {
  const int s = ::socket(AF_UNIX, type, 0);
  const std::lock_guard lock(sockets_mutex);
  if (s >= 0) sockets[s] = {};
  return s;
}

int STPbind(int s, const sockaddr* address, socklen_t) {
  const std::lock_guard lock(sockets_mutex);
  sockaddr_stp wanted;
  std::memcpy(&wanted, address, sizeof wanted);
  sockaddr_un name;
  for (unsigned port = wanted.stp_port != 0 ? ntohs(wanted.stp_port) : 49152; port < 65536; ++port) {
    const in_port_t net = htons(static_cast<std::uint16_t>(port));
    const socklen_t length = unix_address(environment("STP_HOST", "local"), net, &name);
    if (::bind(s, reinterpret_cast<sockaddr*>(&name), length) == 0) {
      sockets[s].port = net;
      return 0;
    }
    if (errno != EADDRINUSE || wanted.stp_port != 0) return -1;
  }
  errno = EADDRINUSE;
  return -1;
}

int STPlisten(int s, int backlog) { return ::listen(s, backlog); }

int STPaccept4(int s, sockaddr* address, socklen_t* length, int flags) {
  const int accepted = ::accept4(s, nullptr, nullptr, flags);
  if (accepted >= 0) fill(address, length, "peer", 0);
  const std::lock_guard lock(sockets_mutex);
  if (accepted >= 0) sockets[accepted] = {};
  return accepted;
}

int STPaccept(int s, sockaddr* address, socklen_t* length) { return STPaccept4(s, address, length, 0); }

int STPconnect(int s, const sockaddr* address, socklen_t) {
  sockaddr_stp to;
  std::memcpy(&to, address, sizeof to);
  sockaddr_un name;
  const std::string host = to.stp_system[0] != '\0' ? to.stp_system : environment("STP_HOST", "local");
  const socklen_t length = unix_address(host, to.stp_port, &name);
  return ::connect(s, reinterpret_cast<sockaddr*>(&name), length);
}

ssize_t STPsend(int s, const void* data, size_t length, int flags) {
  const std::size_t offset = corrupt_offset.load();
  if (offset == 0) return ::send(s, data, length, flags);
  const std::lock_guard lock(sockets_mutex);
  std::vector<char> copy(static_cast<const char*>(data), static_cast<const char*>(data) + length);
  std::size_t& sent = sockets[s].sent;
  if (offset >= sent && offset < sent + length) copy[offset - sent] = static_cast<char>(copy[offset - sent] ^ 1);
  const ssize_t n = ::send(s, copy.data(), length, flags);
  if (n > 0) sent += static_cast<std::size_t>(n);
  return n;
}

ssize_t STPrecv(int s, void* into, size_t length, int flags) { return ::recv(s, into, length, flags); }
int STPshutdown(int s, int how) { return ::shutdown(s, how); }

int STPclose(int s) {
  const std::lock_guard lock(sockets_mutex);
  sockets.erase(s);
  return ::close(s);
}

int STPgetsockname(int s, sockaddr* address, socklen_t* length) {
  const std::lock_guard lock(sockets_mutex);
  fill(address, length, environment("STP_HOST", "local"), sockets[s].port);
  return 0;
}

int STPsetsockopt(int s, int level, int option, const void* value, socklen_t length) { return ::setsockopt(s, level, option, value, length); }
int STPgetsockopt(int s, int level, int option, void* value, socklen_t* length) { return ::getsockopt(s, level, option, value, length); }
// An epoll with the socket in it is readable as asked for. Gone when the process ends.
int STPgetpollfd(int s, short events) {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event = {.events = static_cast<std::uint32_t>(events), .data = {.fd = s}};
  return fd >= 0 && ::epoll_ctl(fd, EPOLL_CTL_ADD, s, &event) == 0 ? fd : -1;
}
int STPpoll(struct pollfd* descriptors, nfds_t count, int timeout_ms) { return ::poll(descriptors, count, timeout_ms); }
int STPerror(int) { return STP_OK; }
const char* STPstrerror(int) { return ""; }

}  // extern "C"

namespace stp {

namespace {
std::atomic<bool> lends{false};
}

void shim::lend(bool on) { lends = on; }

ssize_t send_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<std::byte>)>& fill) {
  errno = EOPNOTSUPP;
  if (!lends) return -1;
  pollfd state = {.fd = s, .events = 0, .revents = 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0) {  // nobody is asked for bytes then
    errno = EPIPE;
    return -1;
  }
  // What was filled has to go: only as much as there is room for is asked for.
  int queued = 0, room = 0;
  socklen_t length = sizeof room;
  if (::ioctl(s, SIOCOUTQ, &queued) != 0 || ::getsockopt(s, SOL_SOCKET, SO_SNDBUF, &room, &length) != 0) return -1;
  errno = EAGAIN;
  if (queued * 4 > room) return -1;
  std::vector<std::byte> bytes(std::min<std::size_t>(most, 7000));
  const std::size_t n = fill(bytes);
  std::size_t done = 0;
  while (done < n) {
    const ssize_t sent = STPsend(s, bytes.data() + done, n - done, MSG_NOSIGNAL);
    if (sent < 0) return -1;
    done += static_cast<std::size_t>(sent);
  }
  return static_cast<ssize_t>(n);
}

ssize_t receive_in_place(int s, std::size_t most, const std::function<std::size_t(std::span<const std::byte>)>& take) {
  errno = EOPNOTSUPP;
  if (!lends) return -1;
  std::vector<std::byte> bytes(std::min<std::size_t>(most, 7000));
  const ssize_t there = ::recv(s, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (there <= 0) return there;
  const std::size_t taken = take(std::span(bytes).first(static_cast<std::size_t>(there)));
  errno = EAGAIN;
  return taken > 0 ? ::recv(s, bytes.data(), taken, 0) : -1;
}

}  // namespace stp
