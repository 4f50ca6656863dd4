#include "hostlib/call.h"

#include <fmt/format.h>

#include <cerrno>

#include "hostlib/debug.h"
#include "hostlib/fork_guard.h"
#include "hostlib/last_error.h"
#include "hostlib/readiness.h"
#include "hostlib/words.h"

namespace stp::host {

Call::Call(std::string_view action) : runtime_(Runtime::get()), action_(action) {
  if (forked() && !runtime_.resume_in_child()) {
    (void)fail(ENOTSUP, Reason::kForked, fmt::format("{}: {}; call exec first", action_, describe(Reason::kForked)));
    return;
  }
  lock_ = std::unique_lock(runtime_.mutex());
  good_ = true;
}

Call::Call(std::string_view action, int s, Check check) : Call(action) {
  s_ = s;
  if (!good_) {
    remember_error(s, last_error(-1));
    return;
  }
  socket_ = runtime_.table().find(s);
  if (check != Check::kData) kept_ = runtime_.table().share(s);
  if (socket_ != nullptr && runtime_.ended()) {
    good_ = false;
    (void)fail(ENETDOWN, Reason::kStopped, fmt::format("{} socket {}: the program is ending", action_, s));
  } else if (socket_ == nullptr || (check == Check::kDescriptor && !runtime_.table().still_ours(s))) {
    good_ = false;
    (void)fail(EBADF, Reason::kNone, fmt::format("{} socket {}: {}", action_, s,
                                                 socket_ == nullptr ? "that is no STP socket of this program"
                                                                    : "its descriptor was closed by other means than STPclose"));
  } else if (socket_->gone != Reason::kNone && check != Check::kClose) {
    good_ = false;
    (void)fail(socket_->gone == Reason::kForked ? ENOTSUP : EBADF, socket_->gone, fmt::format("{} socket {}: {}", action_, s, describe(socket_->gone)));
  }
}

Call::~Call() {
  if (!lock_.owns_lock() || runtime_.host() == nullptr) return;
  const int before = errno;  // the caller's result
  if (socket_ != nullptr && !socket_->poll_descriptors.empty() && !socket_->closed) show_readiness(sockets(), *socket_);
  Waiting& waiting = this->waiting();
  if (waiting.keeps()) {
    if (may_carry_out_) {
      lock_.unlock();
      waiting.carry_out();
    } else {
      waiting.let_go();
    }
  }
  errno = before;
}

int Call::wait(std::uint32_t bits, Nanos deadline) {
  // Where a wait may take less than a system call, not each is worth the question whether the number was closed behind our back.
  if (const Nanos now = boottime_now(); sockets().wants_time() || now - socket_->looked_at_fd >= kMillisecond) {
    if (!runtime_.table().still_ours(s_)) return EBADF;
    socket_->looked_at_fd = now;
  }
  if (kept_ == nullptr) kept_ = runtime_.table().share(s_);
  const Woken woken = waiting().wait(lock_, socket_, bits, deadline);
  if (socket_->closed || socket_->gone != Reason::kNone) return EBADF;
  if (woken == Woken::kTimeout) return EAGAIN;
  return woken == Woken::kInterrupted ? EINTR : 0;
}

std::string Call::action_with_object(const Address* peer, std::string& peer_name) {
  if (peer != nullptr) {
    peer_name = peer->host;
    return fmt::format("{} {}", action_, to_string(*peer));
  }
  if (socket_ == nullptr || runtime_.host() == nullptr) return std::string(action_);
  const auto info = sockets().info(socket_->id);
  if (info && !info->peer.host.empty()) {
    peer_name = info->peer.host;
    return fmt::format("{} {}", action_, to_string(info->peer));
  }
  if (info && info->local.port != 0) return fmt::format("{} port {}", action_, info->local.port);
  return fmt::format("{} socket {}", action_, s_);
}

int Call::fail(const SocketError& error, const Address* peer) {
  if (error.code == EAGAIN || error.code == EINPROGRESS || error.code == EALREADY) return fail_quietly(error.code);
  std::string peer_name;
  std::string words = action_with_object(peer, peer_name);
  if (runtime_.host() != nullptr && lock_.owns_lock())
    words = failure_words(words, error, peer_name, host().view(), host().superblock());
  else
    words += fmt::format(": {}", describe(error.reason));
  return fail(error.code, error.reason, std::move(words));
}

int Call::fail(int code, Reason reason, std::string words) {
  debug("{}", words);
  remember_error(s_, {.code = code, .reason = reason, .words = std::move(words)});
  errno = code;
  return -1;
}

int Call::fail_quietly(int code) {
  remember_quietly(s_, code);
  errno = code;
  return -1;
}

}  // namespace stp::host
