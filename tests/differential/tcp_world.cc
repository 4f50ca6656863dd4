// The rival: TCP of the kernel, over loopback. Each sequence has an address of its own there (127.0.0.0/8 is all of it this host), so that
// what the kernel remembers of the connections of one does not disturb the next.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "tests/differential/world.h"

namespace stp::differential {

const Api kKernelApi = {
    .name = "TCP",
    .domain = AF_INET,
    .socket = ::socket,
    .bind = ::bind,
    .listen = ::listen,
    .connect = ::connect,
    .accept4 = ::accept4,
    .send = ::send,
    .recv = ::recv,
    .writev = ::writev,
    .readv = ::readv,
    .shutdown = ::shutdown,
    .close = ::close,
    .getsockname = ::getsockname,
    .getpeername = ::getpeername,
    .getsockopt = ::getsockopt,
    .setsockopt = ::setsockopt,
    .fcntl = [](int s, int command, int argument) { return ::fcntl(s, command, argument); },
    .ioctl = [](int s, unsigned long request, void* argument) { return ::ioctl(s, request, argument); },
    .select = ::select,
    .poll = ::poll,
};

namespace {

class TcpWorld final : public World {
 public:
  TcpWorld(in_addr_t address, int first_port, Way way, Uses& uses) : World(kKernelApi, first_port), address_(address), way_(way), uses_(uses) {}

 private:
  Written write_address(int port, bool mine) const override {
    return internet_address(mine ? address_ : inet_addr("192.0.2.1"), port);  // the latter is for examples
  }

  // Nothing is held back, for the time being or until it is acknowledged.
  void made(int slot) override { (void)::setsockopt(fd(slot), IPPROTO_TCP, TCP_NODELAY, &kYes, sizeof kYes); }

  // Ports are free at once: what the kernel gives those who ask for it, but not to a second socket while the first has it.
  int bind(int slot, const sockaddr* address, socklen_t length, int port) override {
    const bool owned = port != kNoPort && owner_of(port) >= 0;
    const int reuse = owned ? 0 : 1;
    if (holds(slot)) (void)::setsockopt(fd(slot), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    use(Excuse::kPortsFree);
    const int result = ::bind(fd(slot), address, length);
    const int error = errno;
    if (holds(slot)) (void)::setsockopt(fd(slot), SOL_SOCKET, SO_REUSEADDR, &kYes, sizeof kYes);
    if (result == 0 && port != kNoPort) owners_[static_cast<std::size_t>(port)] = fd(slot);
    errno = error;
    return result;
  }

  // What listens without a name would be STP's, under `stp run`.
  int listen(int slot, int backlog) override {
    const Written any = write_address(0, true);
    sockaddr_in address = {};
    socklen_t length = sizeof address;
    if (way_.run && holds(slot) && ::getsockname(fd(slot), reinterpret_cast<sockaddr*>(&address), &length) == 0 && address.sin_port == 0)
      (void)::bind(fd(slot), reinterpret_cast<const sockaddr*>(&any.address), any.length);
    return ::listen(fd(slot), backlog);
  }

  // A listener does not stop to listen, and a socket that is not connected stays as it was: the kernel remembers even what it refused.
  int shutdown(int slot, int how) override {
    tcp_info info = {};
    socklen_t length = sizeof info;
    if (!holds(slot) || way_.run || ::getsockopt(fd(slot), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return ::shutdown(fd(slot), how);
    if (info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LISTEN) {
      use(Excuse::kShutdownUnconnected);
      const int fresh = ::socket(AF_INET, SOCK_STREAM, 0);
      const int result = ::shutdown(fresh, how);
      const int error = errno;
      (void)::close(fresh);
      errno = error;
      return result;
    }
    const int result = ::shutdown(fd(slot), how);
    if (result == 0 && how != SHUT_WR) deaf_[static_cast<std::size_t>(slot)] = true;
    return result;
  }

  // Two programs of one agent know at once that the other one has closed; TCP finds out by sending.
  void notice(int slot) override {
    use(Excuse::kToldAtOnce);
    pollfd wait = {.fd = fd(slot), .events = 0, .revents = 0};
    if (::send(fd(slot), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) (void)::poll(&wait, 1, 1000);
  }

  // What comes after the end of reading is dropped.
  void between_calls() override {
    for (int slot = 0; slot < kSlots && !way_.run; ++slot) {
      int there = 0;
      if (!holds(slot) || !deaf_[static_cast<std::size_t>(slot)] || ::ioctl(fd(slot), FIONREAD, &there) != 0 || there == 0) continue;
      std::vector<char> into(static_cast<std::size_t>(there));
      use(Excuse::kEndOfReading);
      (void)::recv(fd(slot), into.data(), into.size(), MSG_DONTWAIT);
    }
  }

  void forget(int slot) override {
    std::ranges::replace(owners_, fd(slot), -1);
    deaf_[static_cast<std::size_t>(slot)] = false;
  }

  // Whose bind it was: its socket still has the port.
  int owner_of(int port) const {
    const int owner = owners_[static_cast<std::size_t>(port)];
    sockaddr_in address = {};
    socklen_t length = sizeof address;
    for (const int each : fds_) {
      if (each < 0 || each != owner || ::getsockname(each, reinterpret_cast<sockaddr*>(&address), &length) != 0) continue;
      if (ntohs(address.sin_port) == port_number(port)) return owner;
    }
    return -1;
  }

  static constexpr int kYes = 1;
  void use(Excuse excuse) { ++uses_[static_cast<std::size_t>(excuse)]; }

  in_addr_t address_;
  Way way_;
  Uses& uses_;
  std::array<int, kLowPort + 1> owners_{-1, -1, -1, -1, -1, -1};
  std::array<bool, kSlots> deaf_{};
};

}  // namespace

std::unique_ptr<World> make_tcp_world(unsigned number, Way way, Uses& uses) {
  static const auto start = static_cast<unsigned>(::getpid()) * 4099u;
  const unsigned low = (start + number) % 0xfd0000u + 0x10000u;  // 127.1.0.0 and on
  const unsigned host = 127u << 24 | low;
  return std::make_unique<TcpWorld>(htonl(host), 15000 + static_cast<int>(number % 1000) * 8, way, uses);
}

}  // namespace stp::differential
