#include "hostlib/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "hostlib/agent_host.h"
#include "hostlib/debug.h"
#include "hostlib/embedded_host.h"
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
  joined_->waiting().ready(*socket, bits);
}

Result<Host*> Runtime::join(std::unique_lock<std::mutex>& lock) {
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

namespace {

// The agent, where one serves the storage and host that this program wants; else embedded.
Result<std::unique_ptr<Host>> make_host(const HostSettings& settings, std::mutex& mutex, EngineEvents& events) {
  if (!settings.agent.empty()) {
    auto served = AgentHost::connect({.agent_path = settings.agent, .stg_path = settings.path, .host = settings.wanted_name}, mutex, events);
    if (served) return std::unique_ptr<Host>(std::move(*served));
    debug("embedded: {}", served.error().text);
    if (settings.path.empty() && settings.agent_named) return std::unexpected(served.error());
  }
  auto embedded = EmbeddedHost::start(settings, mutex, events);
  if (!embedded) return std::unexpected(embedded.error());
  return std::unique_ptr<Host>(std::move(*embedded));
}

}  // namespace

Result<Host*> Runtime::start(std::unique_lock<std::mutex>& lock) {
  const HostSettings settings = host_settings();
  lock.unlock();
  auto started = make_host(settings, mutex_, *this);
  lock.lock();
  if (!started) return std::unexpected(started.error());
  starting_ = std::move(*started);
  shared_with_child_ = starting_.get();
  arm_fork_guard(&Runtime::in_child);
  if (auto member = starting_->wait_until_member(lock, settings.progress); !member) {
    std::unique_ptr<Host> failed = std::move(starting_);
    shared_with_child_ = nullptr;
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
  Host& host = *starting_;
  host.waiting().park_all_others();
  if (joined_ != nullptr) {
    const Nanos now = boottime_now();
    for (const auto& socket : table_.all()) {
      host.sockets().close(socket->id, socket->linger && socket->linger_s == 0, now);
    }
  }
  host.leave(lock, std::min(host.patience(), kLongestExitLinger));
}

void Runtime::at_exit() {
  if (!forked()) get().end();
}

void Runtime::in_child() {
  Runtime& runtime = get();
  if (runtime.shared_with_child_ != nullptr) runtime.shared_with_child_->abandon_after_fork();
}

}  // namespace stp::host
