#include "tools/socks5_door.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace stp::forward {
namespace {

using namespace std::chrono_literals;
constexpr auto kHandshakeWithin = 10'000ms;
constexpr auto kFarewellWithin = 2'000ms;
constexpr std::size_t kMostDiscarded = 256 * 1024;

}  // namespace

std::shared_ptr<Socks5Door> Socks5Door::start(EventLoop& loop, UniqueFd client, Asked asked) {
  std::shared_ptr<Socks5Door> door(new Socks5Door(loop, std::move(client), std::move(asked)));
  const std::weak_ptr<Socks5Door> weak = door;
  const bool watching = door->watch();
  const int error = errno;
  loop.after(watching ? kHandshakeWithin : 0ms, [weak, watching, error] {
    const auto self = weak.lock();
    if (!self || !self->asked_) return;
    self->over(watching ? fail(ETIMEDOUT, "the client did not finish the SOCKS5 handshake in time") : fail(error, std::strerror(error)));
  });
  return door;
}

Socks5Door::Socks5Door(EventLoop& loop, UniqueFd client, Asked asked) : loop_(loop), client_(std::move(client)), asked_(std::move(asked)) {}

Socks5Door::~Socks5Door() {
  if (client_) loop_.forget(client_.get());
}

bool Socks5Door::watch() {
  return loop_.watch(client_.get(), EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
    if (const auto self = weak.lock()) self->gone_ ? self->discard() : self->look();
  });
}

// The few bytes of this protocol always find room, except at a client that plays tricks.
bool Socks5Door::send_now(const std::string& bytes) {
  return bytes.empty() ||
         ::send(client_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

void Socks5Door::look() {
  while (handshake_.state() == Socks5Handshake::State::kTalking) {
    std::array<std::byte, 512> bytes;
    const ssize_t n = ::recv(client_.get(), bytes.data(), std::min(bytes.size(), handshake_.wants()), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return over(fail(n < 0 ? errno : ECONNRESET, "the client ended in the middle of the SOCKS5 handshake"));
    handshake_.take(std::span(bytes).first(static_cast<std::size_t>(n)));
    if (!send_now(handshake_.answer())) return over(fail(EPIPE, "the client does not take the answers of the SOCKS5 handshake"));
  }
  loop_.forget(client_.get());  // a hang-up would be told again and again, and what else comes is for the conversation
  if (handshake_.state() == Socks5Handshake::State::kAsked) return over(handshake_.destination());
  say_farewell([this] { over(fail(ECONNREFUSED, handshake_.why())); });
}

Result<UniqueFd> Socks5Door::grant() {
  if (!send_now(socks_reply(SocksReply::kGranted))) return fail(EPIPE, "the client went away");
  return std::move(client_);
}

void Socks5Door::refuse(SocksReply reply, std::function<void()> gone) {
  (void)send_now(socks_reply(reply));
  say_farewell(std::move(gone));
}

// Closing a socket with something unread in it resets the connection, and the client might never see the reply. So it is given time to
// close first.
void Socks5Door::say_farewell(std::function<void()> gone) {
  gone_ = std::move(gone);
  (void)::shutdown(client_.get(), SHUT_WR);
  const bool watching = watch();
  loop_.after(watching ? kFarewellWithin : 0ms, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && self->gone_) std::exchange(self->gone_, nullptr)();
  });
}

void Socks5Door::discard() {
  std::array<std::byte, 4096> bytes;
  const ssize_t n = ::recv(client_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  discarded_ += n > 0 ? static_cast<std::size_t>(n) : 0;
  if (n > 0 && discarded_ < kMostDiscarded) return;
  loop_.forget(client_.get());
  std::exchange(gone_, nullptr)();
}

// Whoever is told may drop this.
void Socks5Door::over(Result<StpAddress> result) {
  const Asked asked = std::exchange(asked_, nullptr);
  if (asked) asked(std::move(result));
}

}  // namespace stp::forward
