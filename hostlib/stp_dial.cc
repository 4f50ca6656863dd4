#include "hostlib/stp_dial.h"

#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace stp {
namespace {

using namespace std::chrono_literals;
constexpr auto kMayJustHaveCome = 2500ms;  // longer than the slowest timing profile takes from one look at the leases to the next
constexpr auto kTryAgain = 100ms;

bool may_just_have_come(int reason) {
  return reason == STP_EUNKNOWNHOST || reason == STP_EHOSTDEAD || reason == STP_EHOSTLEFT || reason == STP_EAGENT;
}

template <std::size_t N>
void copy_name(char (&field)[N], std::string_view name) {
  std::memcpy(field, name.data(), std::min(name.size(), N - 1));
}

sockaddr_stp socket_address(const StpAddress& address) {
  sockaddr_stp out = {};
  out.stp_family = AF_STP;
  out.stp_port = htons(address.port);
  const std::string_view name = address.host;
  const auto dot = name.find('.');
  copy_name(out.stp_system, name.substr(0, dot));
  if (dot != name.npos) copy_name(out.stp_stg, name.substr(dot + 1));
  return out;
}

}  // namespace

std::string stp_words(int socket, int error) {
  const char* const words = STPerror(socket) != STP_OK ? STPstrerror(socket) : nullptr;
  return words != nullptr && *words != '\0' ? words : std::strerror(error);
}

std::shared_ptr<StpDial> StpDial::start(EventLoop& loop, StpAddress to, Done done) {
  std::shared_ptr<StpDial> dial(new StpDial(loop, std::move(to), std::move(done)));
  loop.soon([weak = dial->weak_from_this()] {
    if (const auto self = weak.lock()) self->try_once();
  });
  return dial;
}

StpDial::StpDial(EventLoop& loop, StpAddress to, Done done)
    : loop_(loop), to_(std::move(to)), done_(std::move(done)), until_(EventLoop::Clock::now() + kMayJustHaveCome) {}

StpDial::~StpDial() { drop_socket(); }

void StpDial::drop_socket() {
  if (watched_ >= 0) loop_.forget(std::exchange(watched_, -1));
  socket_.reset();
}

void StpDial::try_once() {
  socket_.reset(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return failed(errno);
  const sockaddr_stp address = socket_address(to_);
  if (STPconnect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return end(std::move(socket_));
  if (errno != EINPROGRESS) return failed(errno);
  watched_ = STPgetpollfd(socket_.get(), POLLOUT);
  const bool watching = watched_ >= 0 && loop_.watch(watched_, EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
    if (const auto self = weak.lock()) self->look();
  });
  if (!watching) failed(errno);
}

// The descriptor may ring for nothing, and SO_ERROR does not tell "under way" from "done": a second connect does, and its words are a
// connect's.
void StpDial::look() {
  const sockaddr_stp address = socket_address(to_);
  if (STPconnect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EALREADY || errno == EINPROGRESS || errno == EINTR) return;
    if (errno != EISCONN) return failed(errno);
  }
  loop_.forget(std::exchange(watched_, -1));
  end(std::move(socket_));
}

void StpDial::failed(int error) {
  const int socket = socket_ ? socket_.get() : -1;
  const int reason = STPerror(socket);
  std::string words = stp_words(socket, error);
  drop_socket();
  if (!may_just_have_come(reason) || EventLoop::Clock::now() + kTryAgain > until_) return end(fail(error, std::move(words)));
  loop_.after(kTryAgain, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->try_once();
  });
}

// Whoever is told may drop this.
void StpDial::end(Result<StpSocket> result) {
  const Done done = std::exchange(done_, nullptr);
  if (done) done(std::move(result));
}

}  // namespace stp
