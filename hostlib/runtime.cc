#include "hostlib/runtime.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <utility>

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

namespace {
thread_local Runtime* own = nullptr;
}

Runtime& Runtime::get() { return own != nullptr ? *own : of_process(); }

void Runtime::make_own(HostSettings settings) {
  // Held on to when their threads have ended, so that whoever looks for lost memory finds none.
  static std::mutex mutex;
  static std::deque<Runtime*>& all = *new std::deque<Runtime*>;
  own = new Runtime;
  own->settings_ = std::move(settings);
  std::lock_guard lock(mutex);
  all.push_back(own);
}

void be_host_of_agent(const std::string& agent_path, const std::string& storage_path, const std::string& host) {
  Runtime::make_own({.path = storage_path, .name = host, .wanted_name = host, .agent = agent_path, .agent_named = true, .agent_only = true, .progress = {}});
}

Runtime& Runtime::of_process() {
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
    if (served) {
      if (const char* faults = std::getenv("STP_FAULTS"); faults != nullptr && *faults != '\0')
        debug_line(fmt::format("STP_FAULTS does nothing in this program, whose I/O the agent {} does: set it for the agent, or set STP_AGENT=none", settings.agent));
      return std::unique_ptr<Host>(std::move(*served));
    }
    if (settings.agent_only || (settings.path.empty() && settings.agent_named)) return std::unexpected(served.error());
    debug("embedded: {}", served.error().text);
  }
  auto embedded = EmbeddedHost::start(settings, EmbeddedHost::DrivenBy::kWhoWaitsElseFallback, mutex, events);
  if (!embedded) return std::unexpected(embedded.error());
  return std::unique_ptr<Host>(std::move(*embedded));
}

}  // namespace

Result<Host*> Runtime::start(std::unique_lock<std::mutex>& lock) {
  const HostSettings settings = settings_ ? *settings_ : host_settings();
  lock.unlock();
  auto started = make_host(settings, mutex_, *this);
  lock.lock();
  if (!started) return std::unexpected(started.error());
  starting_ = std::move(*started);
  shared_with_child_ = starting_.get();
  arm_fork_guard({.before = &Runtime::before_fork, .in_parent = &Runtime::after_fork_in_parent, .in_child = &Runtime::in_child});
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
  if (!forked()) of_process().end();
}

// The lock is held across the fork, so that the child finds everything whole.
void Runtime::before_fork() {
  Runtime& runtime = of_process();
  if (forked() && !runtime.resume_in_child()) return;  // a child that forks again takes up first what its own child is to have
  // fork() may have been called from a signal handler, on top of a call that holds the lock: the child can not go on then.
  for (int tries = 0; !runtime.mutex_.try_lock(); ++tries) {
    // Another thread's fork lets it go: its own bound is enough.
    if (tries >= kLockTries && runtime.forking_.load() == std::thread::id()) return;
    ::usleep(1000);
  }
  runtime.forking_.store(std::this_thread::get_id());
  if (runtime.joined_ != nullptr && !runtime.ended_) runtime.joined_->before_fork();
}

void Runtime::after_fork_in_parent() {
  Runtime& runtime = of_process();
  if (runtime.forking_.load() != std::this_thread::get_id()) return;
  if (runtime.joined_ != nullptr) runtime.joined_->after_fork_in_parent();
  runtime.forking_.store({});
  runtime.mutex_.unlock();
}

void Runtime::in_child() {
  Runtime& runtime = of_process();
  if (runtime.shared_with_child_ != nullptr) runtime.shared_with_child_->abandon_after_fork();
  runtime.may_resume_ = 0;
  if (runtime.forking_.load() != std::this_thread::get_id()) return;
  if (!runtime.joining_) runtime.may_resume_ = ::getpid();
  // The parent's loops watch these: the child asks for its own.
  runtime.table_.close_poll_descriptors();
  runtime.forking_.store({});
  runtime.mutex_.unlock();
}

bool Runtime::resume_in_child() {
  if (may_resume_ != ::getpid()) return false;
  std::lock_guard lock(mutex_);
  if (!forked()) return true;  // another thread was first
  const Host::Resumed resumed = joined_ == nullptr || ended_ ? Host::Resumed::kNot : joined_->resume_after_fork();
  if (resumed == Host::Resumed::kNotYet) return false;
  if (resumed == Host::Resumed::kNot) {
    may_resume_ = 0;
    return false;
  }
  for (const auto& socket : table_.all()) {
    socket->watches = nullptr;  // threads of the parent
    // Connections that the parent accepted and had no descriptor for stay the parent's.
    for (const SocketId id : std::exchange(socket->unclaimed, {})) {
      joined_->sockets().close(id, false, boottime_now());
      joined_->forget(id);
    }
    if (resumed == Host::Resumed::kWithSockets || socket->gone != Reason::kNone) continue;
    socket->gone = Reason::kForked;
    table_.forget_id(std::exchange(socket->id, 0));
  }
  rearm_fork_guard();
  return true;
}

}  // namespace stp::host
