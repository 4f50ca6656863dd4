#include "tests/kill/conversation.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "hostlib/stp.h"  // which programs know as <stp/stp.h>

namespace turns {
namespace {

sockaddr_stp address_of(const std::string& host, std::uint16_t port) {
  sockaddr_stp address = {};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  host.copy(address.stp_system, sizeof address.stp_system - 1);
  return address;
}

sockaddr* raw(sockaddr_stp& address) { return reinterpret_cast<sockaddr*>(&address); }

void limit_waits(int s, const char* call, Player& player, int ms) {
  const timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    if (STPsetsockopt(s, SOL_SOCKET, option, &limit, sizeof limit) != 0) player.note_failure(call, "-", errno, STPerror(s));
}

// The watch ends the process where this is not kept.
int limit_ms(const Player& player) { return player.who().patience_ms * 9 / 10; }

}  // namespace

std::string Ending::words() const {
  if (error == 0) return "end";
  const char* name = ::strerrorname_np(error);
  return fmt::format("{}:{}", name != nullptr ? name : "?", reason);
}

Conversation::Conversation(Conversation&& other) noexcept
    : player_(other.player_), socket_(std::exchange(other.socket_, -1)), peer_(std::move(other.peer_)), ending_(other.ending_) {}

Conversation& Conversation::operator=(Conversation&& other) noexcept {
  abort();
  player_ = other.player_;
  socket_ = std::exchange(other.socket_, -1);
  peer_ = std::move(other.peer_);
  ending_ = other.ending_;
  return *this;
}

Conversation::~Conversation() { abort(); }

std::optional<Conversation> Conversation::connect(Player& player, const std::string& host) {
  const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
  if (s < 0) {
    player.note_failure("socket", host, errno, STPerror(-1));
    return std::nullopt;
  }
  Conversation made(player, s, host);
  limit_waits(s, "limit", player, limit_ms(player));
  sockaddr_stp address = address_of(host, player.who().port);
  const Player::Watched watched(player, "connect", host);
  if (STPconnect(s, raw(address), sizeof address) == 0) return made;
  player.note_failure("connect", host, errno, STPerror(s));
  return std::nullopt;
}

bool Conversation::failed(const char* call) {
  ending_ = {.error = errno, .reason = STPerror(socket_)};
  player_->note_failure(call, peer_, ending_.error, ending_.reason);
  return false;
}

bool Conversation::send(std::span<const unsigned char> bytes) {
  while (!bytes.empty()) {
    const Player::Watched watched(*player_, "send", peer_);
    const ssize_t sent = STPsend(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return failed("send");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

std::size_t Conversation::receive_some(std::span<unsigned char> into) {
  for (;;) {
    const Player::Watched watched(*player_, "recv", peer_);
    const ssize_t got = STPrecv(socket_, into.data(), into.size(), 0);
    if (got > 0) return static_cast<std::size_t>(got);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed("recv");
    ending_ = {};
    return 0;
  }
}

bool Conversation::receive(std::span<unsigned char> into) {
  while (!into.empty()) {
    const std::size_t got = receive_some(into);
    if (got == 0) return false;
    into = into.subspan(got);
  }
  return true;
}

bool Conversation::shut() {
  const Player::Watched watched(*player_, "shutdown", peer_);
  return STPshutdown(socket_, SHUT_WR) == 0 || failed("shutdown");
}

bool Conversation::close() {
  const Player::Watched watched(*player_, "close", peer_);
  if (STPclose(std::exchange(socket_, -1)) == 0) return true;
  ending_ = {.error = errno, .reason = STPerror(-1)};
  player_->note_failure("close", peer_, ending_.error, ending_.reason);
  return false;
}

void Conversation::abort() {
  if (socket_ < 0) return;
  const Player::Watched watched(*player_, "abort", peer_);
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  (void)STPsetsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  (void)STPclose(std::exchange(socket_, -1));
}

Listener::~Listener() {
  if (socket_ >= 0) (void)STPclose(socket_);
}

bool Listener::listens() {
  if (socket_ >= 0) return true;
  const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
  sockaddr_stp address = address_of("", player_.who().port);
  if (s < 0 || STPbind(s, raw(address), sizeof address) != 0 || STPlisten(s, 64) != 0) {
    player_.note_failure("listen", "-", errno, STPerror(s));
    if (s >= 0) (void)STPclose(s);
    return false;
  }
  limit_waits(s, "limit", player_, 1000);
  socket_ = s;
  return true;
}

std::optional<Conversation> Listener::accept() {
  if (!listens()) {
    player_.pause_ms(10);
    return std::nullopt;
  }
  sockaddr_stp from = {};
  socklen_t length = sizeof from;
  const Player::Watched watched(player_, "accept", "-");
  const int s = STPaccept(socket_, raw(from), &length);
  if (s >= 0) {
    limit_waits(s, "limit", player_, limit_ms(player_));
    return Conversation(player_, s, from.stp_system);
  }
  if (errno != EAGAIN && errno != EINTR) {
    player_.note_failure("accept", "-", errno, STPerror(socket_));
    player_.pause_ms(10);
  }
  return std::nullopt;
}

std::string joined_name(Player& player) {
  for (;;) {
    const int s = STPsocket(AF_STP, SOCK_STREAM, 0);
    if (s < 0) {
      player.note_failure("socket", "-", errno, STPerror(-1));
      player.pause_ms(2);
      continue;
    }
    sockaddr_stp own = {};
    socklen_t length = sizeof own;
    const bool named = STPgethostname(s, raw(own), &length) == 0;
    if (!named) player.note_failure("gethostname", "-", errno, STPerror(s));
    (void)STPclose(s);
    if (named) return own.stp_system;
  }
}

}  // namespace turns
