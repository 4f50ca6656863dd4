#include "tools/kernel_dial.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace stp::forward {
namespace {

using namespace std::chrono_literals;
constexpr auto kLongestTry = 15'000ms;   // of one address
constexpr auto kFullQueueWait = 5'000ms;  // for a Unix listener that is behind with accepting
constexpr auto kTryAgain = 50ms;

}  // namespace

std::shared_ptr<KernelDial> KernelDial::start(EventLoop& loop, NameResolver& resolver, KernelAddress to, Done done) {
  std::shared_ptr<KernelDial> dial(new KernelDial(loop, std::move(to), std::move(done)));
  dial->begin(resolver);
  return dial;
}

KernelDial::KernelDial(EventLoop& loop, KernelAddress to, Done done)
    : loop_(loop), to_(std::move(to)), done_(std::move(done)), began_(EventLoop::Clock::now()) {}

KernelDial::~KernelDial() {
  if (fd_) loop_.forget(fd_.get());
}

void KernelDial::begin(NameResolver& resolver) {
  const auto weak = weak_from_this();
  if (!to_.path.empty()) {
    addresses_.push_back(unix_address(to_.path));
    return loop_.soon([weak] {
      if (const auto self = weak.lock()) self->try_next();
    });
  }
  resolver.resolve(to_.host, to_.port, [weak](Result<std::vector<SocketAddress>> found) {
    const auto self = weak.lock();
    if (!self) return;
    if (!found) return self->end(std::unexpected(found.error()));
    self->addresses_ = std::move(*found);
    self->try_next();
  });
}

void KernelDial::try_next() {
  while (next_ < addresses_.size()) {
    fd_.reset(::socket(addresses_[next_].storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd_ && ::connect(fd_.get(), addresses_[next_].get(), addresses_[next_].length) == 0) return end(std::move(fd_));
    if (errno == EINPROGRESS) return watch_for_end();
    last_error_ = errno;
    fd_.reset();
    if (last_error_ == EAGAIN && !to_.path.empty() && EventLoop::Clock::now() < began_ + kFullQueueWait) return try_again_later();
    ++next_;
  }
  end(fail(last_error_, fmt::format("can not connect to {}: {}", to_string(to_), std::strerror(last_error_))));
}

void KernelDial::try_again_later() {
  loop_.after(kTryAgain, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->try_next();
  });
}

void KernelDial::watch_for_end() {
  const auto weak = weak_from_this();
  const bool watching = loop_.watch(fd_.get(), EPOLLOUT, [weak](std::uint32_t) {
    if (const auto self = weak.lock()) self->look();
  });
  if (!watching) return give_up_address(errno);
  loop_.after(kLongestTry, [weak, at = next_] {
    const auto self = weak.lock();
    if (self && self->fd_ && self->next_ == at) self->give_up_address(ETIMEDOUT);
  });
}

void KernelDial::look() {
  int code = 0;
  socklen_t length = sizeof code;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &code, &length) != 0) code = errno;
  if (code != 0) return give_up_address(code);
  loop_.forget(fd_.get());
  end(std::move(fd_));
}

void KernelDial::give_up_address(int error) {
  loop_.forget(fd_.get());
  fd_.reset();
  last_error_ = error;
  ++next_;
  try_next();
}

// Whoever is told may drop this.
void KernelDial::end(Result<UniqueFd> result) {
  const Done done = std::exchange(done_, nullptr);
  if (done) done(std::move(result));
}

}  // namespace stp::forward
