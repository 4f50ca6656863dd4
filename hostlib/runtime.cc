#include "hostlib/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "hostlib/debug.h"
#include "hostlib/fork_guard.h"
#include "hostlib/readiness.h"

namespace stp::host {
namespace {

constexpr Nanos kLongestExitLinger = 10 * kSecond;
constexpr int kLockTries = 1000;  // a millisecond each

}  // namespace

Runtime& Runtime::get() {
  // Never destroyed: statics of the program may make STP calls from their destructors.
  static Runtime& runtime = *[] {
    auto* made = new Runtime;
    (void)std::atexit(&Runtime::at_exit);
    return made;
  }();
  return runtime;
}

void Runtime::on_ready(SocketId id, std::uint32_t bits) {
  Socket* socket = table_.find_id(id);
  if (socket == nullptr || joined_ == nullptr) return;
  if ((bits & Ready::kDrained) != 0 && (bits & Ready::kHangUp) != 0) socket->lost = true;
  if (!socket->poll_descriptors.empty()) raise_readiness(*socket, bits);
  joined_->driving().ready(*socket, bits);
}

Result<EmbeddedHost*> Runtime::join(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    if (ended_) return fail(ENETDOWN, "the program is ending");
    if (joined_ != nullptr) return joined_;
    if (!joining_) break;
    join_ended_.wait(lock);
  }
  joining_ = true;
  auto host = start(lock);
  joining_ = false;
  join_ended_.notify_all();
  return host;
}

Result<EmbeddedHost*> Runtime::start(std::unique_lock<std::mutex>& lock) {
  const HostSettings settings = host_settings();
  lock.unlock();
  auto started = EmbeddedHost::start(settings, mutex_, *this);
  lock.lock();
  if (!started) return std::unexpected(started.error());
  starting_ = std::move(*started);
  storage_ = &starting_->storage();
  arm_fork_guard(&Runtime::in_child);
  if (auto member = starting_->wait_until_member(lock, settings.progress); !member) {
    std::unique_ptr<EmbeddedHost> failed = std::move(starting_);
    storage_ = nullptr;
    lock.unlock();
    failed.reset();
    lock.lock();
    return std::unexpected(member.error());
  }
  joined_ = starting_.get();
  options_.apply(*joined_);
  return joined_;
}

// Closes what the program left open as the kernel would, waits, bounded, until it has arrived, and leaves the group.
void Runtime::end() {
  std::unique_lock lock(mutex_, std::defer_lock);
  // exit() may have been called from a signal handler, on top of a call that holds the lock.
  for (int tries = 0; !lock.try_lock(); ++tries) {
    if (tries == kLockTries) return;
    ::usleep(1000);
  }
  if (ended_ || starting_ == nullptr) return;
  ended_ = true;
  EmbeddedHost& host = *starting_;
  host.driving().park_all_others();
  if (joined_ != nullptr) {
    const Nanos now = boottime_now();
    for (const auto& socket : table_.all()) {
      host.engine().close(socket->id, socket->linger && socket->linger_s == 0, now);
    }
  }
  host.leave(lock, std::min(host.patience(), kLongestExitLinger));
}

void Runtime::at_exit() {
  if (!forked()) get().end();
}

void Runtime::in_child() {
  Runtime& runtime = get();
  if (runtime.storage_ != nullptr) runtime.storage_->abandon_after_fork();
}

}  // namespace stp::host
