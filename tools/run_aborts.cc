#include "tools/run_aborts.h"

#include <sys/socket.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "tools/run_sockets.h"

namespace stp {

using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr auto kLookForReaders = 1s;
constexpr auto kRemember = 60s;         // after the end that has the name was closed: the other one may read late
constexpr unsigned kMostOfUser = 1024;  // each is a descriptor of the agent
constexpr int kBacklog = 64;            // nobody accepts; who looks does so once

UniqueFd unix_socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

}  // namespace

int RunAborts::set(const std::string& conversation, uid_t user, bool accepter, bool on) {
  const auto name = run::decode_text(conversation);
  if (!name || !name->stays_here() || name->local.ip != hosts_.own_address()) return ENOENT;
  const SocketName mark = name->aborted_by(user, accepter);
  const std::string text = run::text_of(mark);
  if (!on) {
    if (marks_.erase(text) != 0 && --of_user_[user] == 0) of_user_.erase(user);
    return 0;
  }
  if (marks_.contains(text)) return 0;
  if (!is_there(*name)) return ENOENT;
  if (const auto used = of_user_.find(user); used != of_user_.end() && used->second >= kMostOfUser) return ENOBUFS;
  UniqueFd socket = unix_socket();
  if (!socket || !bind_to(socket.get(), mark) || ::listen(socket.get(), kBacklog) != 0) return ENOBUFS;
  marks_[text] = {.socket = std::move(socket), .conversation = *name, .user = user, .last_seen = EventLoop::Clock::now()};
  ++of_user_[user];
  look_later();
  return 0;
}

// A name that is somebody's can not be had.
bool RunAborts::is_there(const SocketName& conversation) const {
  const UniqueFd trial = unix_socket();
  return !trial || (!bind_to(trial.get(), conversation) && errno == EADDRINUSE);
}

void RunAborts::close_all() {
  marks_.clear();
  of_user_.clear();
}

void RunAborts::look_later() {
  if (!std::exchange(looks_later_, true)) loop_.after(kLookForReaders, [this] {
    looks_later_ = false;
    look();
    if (!marks_.empty()) look_later();
  });
}

void RunAborts::look() {
  const auto now = EventLoop::Clock::now();
  for (auto it = marks_.begin(); it != marks_.end();) {
    Mark& mark = it->second;
    if (is_there(mark.conversation)) mark.last_seen = now;
    const bool over = now - mark.last_seen >= kRemember;
    if (over && --of_user_[mark.user] == 0) of_user_.erase(mark.user);
    it = over ? marks_.erase(it) : std::next(it);
  }
}

}  // namespace stp
