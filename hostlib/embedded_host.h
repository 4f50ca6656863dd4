// The host that lives inside this process: storage, membership with its thread and its own medium, engine and
// the driving of it. Made by the runtime, once it is needed.
//
// Threads: one for membership (it must beat however busy the program is), and Driving's fallback where it is wanted. Everything else runs on the
// program's threads, under the runtime's lock.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "hostlib/driving.h"
#include "hostlib/host.h"
#include "hostlib/host_options.h"
#include "stp/engine.h"
#include "stp/membership.h"
#include "stp/storage.h"
#include "stp/system.h"

namespace stp::host {

class EmbeddedHost final : public Host {
 public:
  // A caller with a thread of its own that waits or steps all the time (an agent) needs no fallback to drive beside it.
  enum class DrivenBy { kWhoWaitsElseFallback, kOwnThread };
  // Opens the storage and starts to join; does not wait. Without the lock. Errors are worded for the user.
  static Result<std::unique_ptr<EmbeddedHost>> start(const HostSettings& settings, DrivenBy driven_by, std::mutex& mutex,
                                                     EngineEvents& events);
  // Stops all threads without leaving the group: for a join that failed. Without the lock.
  ~EmbeddedHost() override;

  // -- See Host
  Result<void> wait_until_member(std::unique_lock<std::mutex>& lock, const std::function<void(std::string_view)>& progress) override;
  void leave(std::unique_lock<std::mutex>& lock, Nanos linger) override;
  void abandon_after_fork() override { storage_->abandon_after_fork(); }
  SocketCalls& sockets() override { return *engine_; }
  Waiting& waiting() override { return *driving_; }
  MembershipBoard::View view() override { return board_.view(); }
  const Superblock& superblock() const override { return storage_->superblock(); }
  std::string own_name() override;
  const std::string& base_name() const override { return base_name_; }
  void look_at_leases_now() override {
    board_.nudge();
    membership_medium_->wake();
  }
  EngineCounters counters() override { return engine_->counters(); }

  Engine& engine() { return *engine_; }
  Driving& driving() { return *driving_; }
  MembershipBoard& board() { return board_; }
  const std::string& path() const { return storage_->path(); }
  std::shared_ptr<BlockSource> blocks() const { return storage_; }

 private:
  EmbeddedHost() = default;
  void membership_loop();
  void stop_membership();

  std::string base_name_;
  std::shared_ptr<Storage> storage_;
  MembershipBoard board_;
  SystemRandom engine_random_;
  SystemRandom membership_random_;
  std::unique_ptr<Medium> membership_medium_;
  std::unique_ptr<Medium> engine_medium_;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Driving> driving_;
  std::thread membership_thread_;
  std::atomic<bool> stop_membership_{false};
};

}  // namespace stp::host
