#include "tools/bench_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <time.h>

#include <cerrno>
#include <cstring>

#include "hostlib/stp.h"

namespace stp::tools {
namespace {

std::unexpected<Error> failed(const char* call, int s) {
  const int error = errno;
  return fail(error, fmt::format("{}: {} ({})", call, STPstrerror(s), std::strerror(error)));
}

}  // namespace

std::int64_t boottime_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

Result<BenchSocket> BenchSocket::make() {
  const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
  if (s < 0) return failed("STPsocket", -1);
  return BenchSocket(s);
}

BenchSocket::~BenchSocket() {
  if (s_ >= 0) STPclose(s_);
}

Result<void> BenchSocket::connect(const Address& peer) {
  sockaddr_stp address{};
  address.stp_family = AF_STP;
  address.stp_port = htons(peer.port);
  std::strncpy(address.stp_system, peer.host.c_str(), sizeof address.stp_system - 1);
  if (STPconnect(s_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return failed("STPconnect", s_);
  return {};
}

Result<Address> BenchSocket::listen() {
  sockaddr_stp address{};
  address.stp_family = AF_STP;
  if (STPbind(s_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return failed("STPbind", s_);
  constexpr int kBacklog = 1024;  // thousands connect one after the other, as fast as they can
  if (STPlisten(s_, kBacklog) != 0) return failed("STPlisten", s_);
  socklen_t length = sizeof address;
  if (STPgetsockname(s_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return failed("STPgetsockname", s_);
  return Address{.host = address.stp_system, .stg = "", .port = ntohs(address.stp_port)};
}

Result<BenchSocket> BenchSocket::accept() {
  const int s = STPaccept(s_, nullptr, nullptr);
  if (s < 0) return failed("STPaccept", s_);
  return BenchSocket(s);
}

Result<void> BenchSocket::send(const void* data, std::size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = STPsend(s_, at, size, MSG_NOSIGNAL);
    if (n < 0) return failed("STPsend", s_);
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Result<std::size_t> BenchSocket::send_some(const void* data, std::size_t size) {
  const ssize_t n = STPsend(s_, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0) return static_cast<std::size_t>(n);
  if (errno == EAGAIN) return std::size_t{0};
  return failed("STPsend", s_);
}

Result<std::size_t> BenchSocket::receive_some(void* into, std::size_t size) {
  const ssize_t n = STPrecv(s_, into, size, 0);
  if (n < 0) return failed("STPrecv", s_);
  return static_cast<std::size_t>(n);
}

Result<void> BenchSocket::receive(void* into, std::size_t size) {
  char* at = static_cast<char*>(into);
  while (size > 0) {
    auto n = receive_some(at, size);
    if (!n) return std::unexpected(n.error());
    if (*n == 0) return fail(ECONNRESET, "STPrecv: the other host ended the connection");
    at += *n;
    size -= *n;
  }
  return {};
}

Result<void> BenchSocket::end_sending() {
  if (STPshutdown(s_, SHUT_WR) != 0) return failed("STPshutdown", s_);
  return {};
}

void BenchSocket::set_spin(std::uint32_t spin_us) {
  if (spin_us == kSpinAsItIs) return;
  int value = static_cast<int>(spin_us);
  (void)STPsetopt(s_, STP_OPT_SPIN_US, &value, sizeof value);
}

}  // namespace stp::tools
