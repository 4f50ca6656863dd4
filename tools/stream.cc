#include "tools/stream.h"

#include <fmt/format.h>

#include <arpa/inet.h>
#include <poll.h>
#include <sys/time.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <thread>
#include <utility>

#include "hostlib/stp.h"

namespace stp {

namespace {

constexpr std::chrono::milliseconds kLookInterval{250};
constexpr std::chrono::milliseconds kRetryInterval{100};

void set_timeouts(int socket) {
  const timeval look{0, std::chrono::microseconds(kLookInterval).count()};
  (void)STPsetsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look);
  (void)STPsetsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &look, sizeof look);
}

bool is_retry(int error) { return error == EINTR || error == EAGAIN || error == EWOULDBLOCK; }

// The library's own words where it has some, else the errno's.
std::string reason(int socket, int error) {
  if (STPerror(socket) != STP_OK)
    if (const char* words = STPstrerror(socket); words != nullptr && *words != '\0') return words;
  char buffer[128];
  return strerror_r(error, buffer, sizeof buffer);
}

template <std::size_t N>
bool copy_name(char (&out)[N], std::string_view name) {
  if (name.size() >= N) return false;
  if (!name.empty()) std::memcpy(out, name.data(), name.size());  // an empty view may have no data at all
  out[name.size()] = '\0';
  return true;
}

Outcome<sockaddr_stp> address_of(std::string_view host, std::uint16_t port) {
  sockaddr_stp address{};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  const std::size_t dot = host.find('.');
  const std::string_view stg = dot == host.npos ? std::string_view() : host.substr(dot + 1);
  if (!copy_name(address.stp_system, host.substr(0, dot)) || !copy_name(address.stp_stg, stg))
    return failure(FailureCode::kUsage, fmt::format("\"{}\" is too long for a host name (63 characters, storage group 31)", printable(host)));
  return address;
}

// One try. The errno goes to `error`, for the caller to decide whether another one makes sense.
Outcome<int> try_connect(const sockaddr_stp& address, std::string_view name, int* error) {
  const int socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) {
    *error = errno;
    return failure(FailureCode::kCannotConnect, fmt::format("cannot use STP: {}", reason(-1, *error)));
  }
  if (STPconnect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  *error = errno;
  std::string words = reason(socket, *error);
  (void)STPclose(socket);
  return failure(FailureCode::kCannotConnect, fmt::format("cannot connect to {}: {}", name, words));
}

bool worth_another_try(int error) {
  return error == ECONNREFUSED || error == EHOSTUNREACH || error == EHOSTDOWN || error == ETIMEDOUT || is_retry(error);
}

}  // namespace

Stream::Stream(int socket, std::string peer, const std::atomic<bool>* cancelled)
    : socket_(socket), peer_(std::move(peer)), cancelled_(cancelled) {
  set_timeouts(socket_);
}

Stream::Stream(Stream&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), peer_(std::move(other.peer_)), cancelled_(other.cancelled_) {}

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this == &other) return *this;
  if (socket_ >= 0) (void)STPclose(socket_);
  socket_ = std::exchange(other.socket_, -1);
  peer_ = std::move(other.peer_);
  cancelled_ = other.cancelled_;
  return *this;
}

Stream::~Stream() {
  if (socket_ >= 0) (void)STPclose(socket_);
}

std::unexpected<Failure> Stream::gone(std::string_view doing, int error) const {
  return failure(FailureCode::kPeerGone, fmt::format("connection to {} lost while {}: {}", peer_, doing, reason(socket_, error)));
}

Outcome<void> Stream::send_all(ConstBytes bytes) {
  while (!bytes.empty()) {
    if (cancelled()) return failure(FailureCode::kInterrupted, "interrupted");
    const ssize_t n = STPsend(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0)
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    else if (!is_retry(errno))
      return gone("sending", errno);
  }
  return {};
}

Outcome<std::size_t> Stream::receive_some(Bytes into) {
  while (true) {
    if (cancelled()) return failure(FailureCode::kInterrupted, "interrupted");
    const ssize_t n = STPrecv(socket_, into.data(), into.size(), 0);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (!is_retry(errno)) return gone("receiving", errno);
  }
}

Outcome<void> Stream::receive_exactly(Bytes into) {
  while (!into.empty()) {
    auto n = receive_some(into);
    if (!n) return std::unexpected(n.error());
    if (*n == 0) return failure(FailureCode::kPeerGone, fmt::format("{} ended the connection in the middle of a message", peer_));
    into = into.subspan(*n);
  }
  return {};
}

bool Stream::readable() const {
  std::byte one;
  return STPrecv(socket_, &one, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || !is_retry(errno);
}

Outcome<void> Stream::wait_for_loss(int ended) const {
  const int look_ms = cancelled_ == nullptr ? -1 : static_cast<int>(kLookInterval.count());
  while (true) {
    if (cancelled()) return failure(FailureCode::kInterrupted, "interrupted");
    pollfd watched[2] = {{socket_, 0, 0}, {ended, POLLIN, 0}};
    const int n = STPpoll(watched, 2, look_ms);
    if (n < 0 && !is_retry(errno)) return gone("waiting for something to send", errno);
    if (n <= 0) continue;
    if (watched[1].revents != 0) return {};
    if (watched[0].revents == 0) continue;
    int error = 0;
    socklen_t length = sizeof error;
    if (STPgetsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error == 0) error = ECONNRESET;
    return gone("waiting for something to send", error);
  }
}

Outcome<void> Stream::finish_sending() {
  if (STPshutdown(socket_, SHUT_WR) != 0) return gone("ending what is sent", errno);
  return {};
}

Outcome<void> Stream::close() {
  const int socket = std::exchange(socket_, -1);
  if (socket < 0 || STPclose(socket) == 0) return {};
  return failure(FailureCode::kPeerGone,
                 fmt::format("connection to {} lost before everything sent had arrived: {}", peer_, reason(-1, errno)));
}

void Stream::abort() {
  if (socket_ < 0) return;
  const linger at_once{1, 0};
  (void)STPsetsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  (void)STPclose(std::exchange(socket_, -1));
}

void Stream::shut_down() {
  if (socket_ >= 0) (void)STPshutdown(socket_, SHUT_RDWR);
}

Outcome<Stream> connect_stream(std::string_view host, std::uint16_t port, std::chrono::milliseconds wait,
                               const std::atomic<bool>* cancelled) {
  const auto address = address_of(host, port);
  if (!address) return std::unexpected(address.error());
  const std::string name = fmt::format("{}:{}", printable(host), port);
  const auto deadline = std::chrono::steady_clock::now() + wait;
  while (true) {
    int error = 0;
    const auto socket = try_connect(*address, name, &error);
    if (socket) return Stream(*socket, name, cancelled);
    if (cancelled != nullptr && cancelled->load()) return failure(FailureCode::kInterrupted, "interrupted");
    if (!worth_another_try(error) || std::chrono::steady_clock::now() + kRetryInterval > deadline) return std::unexpected(socket.error());
    std::this_thread::sleep_for(kRetryInterval);
  }
}

Listener::Listener(Listener&& other) noexcept : socket_(std::exchange(other.socket_, -1)), port_(other.port_), cancelled_(other.cancelled_) {}

Listener::~Listener() {
  if (socket_ >= 0) (void)STPclose(socket_);
}

Outcome<Listener> Listener::listen(std::uint16_t port, int backlog, const std::atomic<bool>* cancelled) {
  const int socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return failure(FailureCode::kCannotConnect, fmt::format("cannot use STP: {}", reason(-1, errno)));
  Listener listener(socket, port, cancelled);
  sockaddr_stp address{};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  if (STPbind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || STPlisten(socket, backlog) != 0)
    return failure(FailureCode::kCannotConnect, fmt::format("cannot listen on port {}: {}", port, reason(socket, errno)));
  socklen_t length = sizeof address;
  if (STPgetsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) == 0) listener.port_ = ntohs(address.stp_port);
  set_timeouts(socket);
  return listener;
}

Outcome<Stream> Listener::accept() {
  while (true) {
    if (cancelled_ != nullptr && cancelled_->load()) return failure(FailureCode::kInterrupted, "interrupted");
    sockaddr_stp from{};
    socklen_t length = sizeof from;
    const int socket = STPaccept4(socket_, reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC);
    if (socket >= 0) {
      from.stp_system[sizeof from.stp_system - 1] = '\0';
      return Stream(socket, fmt::format("{}:{}", printable(from.stp_system), ntohs(from.stp_port)), cancelled_);
    }
    // Too much of something for the moment: those who are connected go on, and the next one waits in the queue.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      std::this_thread::sleep_for(kRetryInterval);
      continue;
    }
    // What befell a connection while it waited in the queue is that connection's trouble.
    if (!is_retry(errno) && errno != ECONNABORTED && errno != ECONNRESET)
      return failure(FailureCode::kCannotConnect, fmt::format("cannot accept on port {}: {}", port_, reason(socket_, errno)));
  }
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0 || value > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

}  // namespace stp
