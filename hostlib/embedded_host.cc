#include "hostlib/embedded_host.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "hostlib/deadline.h"
#include "hostlib/debug.h"
#include "hostlib/quiet_thread.h"
#include "stp/cpu_cache.h"
#include "stp/names.h"

namespace stp::host {
namespace {

constexpr Nanos kSpeakAfter = kSecond;

Result<void> check_settings(const HostSettings& settings) {
  if (settings.path.empty()) {
    return fail(ENETDOWN,
                "no data storage system was given: set STP_STG to the path of one (a file or block device made by \"stp format\")");
  }
  if (!valid_host_name(settings.name)) {
    return fail(EINVAL, fmt::format("\"{}\" can not be a host name (a-z, 0-9 and -, at most {} characters): set STP_HOST to one that can",
                                    settings.name, kMaxHostName));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<EmbeddedHost>> EmbeddedHost::start(const HostSettings& settings, DrivenBy driven_by, std::mutex& mutex,
                                                          EngineEvents& events) {
  if (auto good = check_settings(settings); !good) return std::unexpected(good.error());
  auto storage = Storage::open(settings.path, Storage::Access::kReadWrite);
  if (!storage) return std::unexpected(storage.error());
  std::unique_ptr<EmbeddedHost> host(new EmbeddedHost);
  host->base_name_ = settings.name;
  host->storage_ = *storage;
  auto membership_medium = host->storage_->make_medium();
  if (!membership_medium) return std::unexpected(membership_medium.error());
  auto engine_medium = host->storage_->make_medium();
  if (!engine_medium) return std::unexpected(engine_medium.error());
  if (const std::string faults = host->storage_->faults(); !faults.empty())
    debug_line(fmt::format("FAULTS ARE ON for {}, on purpose: STP_FAULTS={}", settings.path, faults));
  host->membership_medium_ = std::move(*membership_medium);
  host->engine_medium_ = std::move(*engine_medium);

  const auto pid = static_cast<std::uint32_t>(::getpid());
  const Superblock& superblock = host->storage_->superblock();
  host->membership_ = std::make_unique<Membership>(
      MembershipConfig{.superblock = superblock, .host = settings.name, .identity = host->storage_->identity(), .pid = pid},
      *host->membership_medium_, host->storage_->locks(), host->membership_random_, host->board_);
  EngineConfig config;
  config.superblock = superblock;
  config.pid = pid;
  config.wall_clock_ms = wall_clock_ms() - static_cast<std::uint64_t>(boottime_now() / kMillisecond);
  config.answers_from_afar = driven_by == DrivenBy::kOwnThread;
  config.evict_received = superblock.medium == MediumKind::kDirect && host->storage_->facts().hardware && eviction_helps_hypervisor();
  host->engine_ = std::make_unique<Engine>(config, *host->engine_medium_, host->board_, host->engine_random_, events);
  host->driving_ = std::make_unique<Driving>(mutex, *host->engine_, *host->engine_medium_);
  const bool started = start_quiet_thread(host->membership_thread_, [self = host.get()] { self->membership_loop(); }) &&
                       (driven_by == DrivenBy::kOwnThread || host->driving_->start_fallback());
  if (!started) return fail(EAGAIN, "can not start a thread: the system has no room for one more");
  debug("joining {} ({}, {}) as {}", superblock.stg, settings.path, host->storage_->medium_name(), settings.name);
  return host;
}

EmbeddedHost::~EmbeddedHost() {
  if (driving_) driving_->stop_fallback();
  stop_membership();
}

void EmbeddedHost::membership_loop() {
  std::uint64_t seen = 0;
  while (!stop_membership_.load(std::memory_order_acquire)) {
    const Nanos next = membership_->step(boottime_now());
    if (board_.version() != seen) {
      seen = board_.version();
      driving_->board_changed();
    }
    membership_medium_->wait(next, 0);
  }
}

void EmbeddedHost::stop_membership() {
  if (!membership_thread_.joinable()) return;
  stop_membership_.store(true, std::memory_order_release);
  membership_medium_->wake();
  membership_thread_.join();
}

std::string EmbeddedHost::own_name() {
  const std::string name = board_.view().self.name;
  return name.empty() ? base_name_ : name;
}

Result<void> EmbeddedHost::wait_until_member(std::unique_lock<std::mutex>& lock, const std::function<void(std::string_view)>& progress) {
  const Nanos began = boottime_now();
  std::string said;
  for (;;) {
    const Self self = board_.view().self;
    if (self.state != MemberState::kJoining) {
      if (!said.empty() && progress) progress({});
      if (self.state == MemberState::kStopped || self.state == MemberState::kLeft) {
        return fail(self.error_code != 0 ? self.error_code : ENETDOWN, self.why.empty() ? std::string(describe(self.reason)) : self.why);
      }
      debug("joined as {} (slot {}, incarnation {}) after {} ms", self.name, self.identity.slot, self.identity.incarnation,
            (boottime_now() - began) / kMillisecond);
      driving_->step(boottime_now());  // so that the engine knows it too
      return {};
    }
    if (boottime_now() - began >= kSpeakAfter && self.why != said) {
      said = self.why;
      debug("joining waits: {}", said);
      if (progress) progress(said);
    }
    (void)driving_->wait(lock, nullptr, 0, after(boottime_now(), 250 * kMillisecond));
  }
}

void EmbeddedHost::leave(std::unique_lock<std::mutex>& lock, Nanos linger) {
  const auto wait_for = [&](Nanos bound, auto done) {
    const Nanos end = after(boottime_now(), bound);
    while (!done() && boottime_now() < end)
      (void)driving_->wait(lock, nullptr, Driving::kOneStep, std::min(end, after(boottime_now(), 5 * kMillisecond)));
    return done();
  };
  driving_->step(boottime_now());
  const bool was_member = board_.view().self.state == MemberState::kMember;
  if (was_member && !wait_for(linger, [&] { return engine_->drained(); })) {
    debug("leaving although not everything has arrived after {} s", linger / kSecond);
  }
  engine_->shut_down(boottime_now());
  driving_->step(boottime_now());
  const Nanos fence = static_cast<Nanos>(superblock().timing.fence_ms) * kMillisecond;
  (void)wait_for(std::min(fence, kSecond), [&] { return engine_->drained(); });
  board_.want_leave();
  membership_medium_->wake();
  const bool left = wait_for(fence, [&] {
    const MemberState state = board_.view().self.state;
    return state == MemberState::kLeft || state == MemberState::kStopped;
  });
  debug("{}", left ? "left" : "going without having left: the storage did not answer in time");
  if (!left) return;  // a thread may be stuck in the storage; the end of the process takes it along
  lock.unlock();
  driving_->stop_fallback();
  stop_membership();
  lock.lock();
}

}  // namespace stp::host
