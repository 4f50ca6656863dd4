// The host that lives inside this process: storage, membership with its thread and its own medium, engine and
// the driving of it. Made by the runtime, once it is needed.
//
// Threads: one for membership (it must beat however busy the program is), and Driving's fallback. Everything else runs on the
// program's threads, under the runtime's lock.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "hostlib/driving.h"
#include "hostlib/host_options.h"
#include "stp/engine.h"
#include "stp/membership.h"
#include "stp/storage.h"
#include "stp/system.h"

namespace stp::host {

class EmbeddedHost {
 public:
  // Opens the storage and starts to join; does not wait. Without the lock. Errors are worded for the user.
  static Result<std::unique_ptr<EmbeddedHost>> start(const HostSettings& settings, std::mutex& mutex, EngineEvents& events);
  // Stops all threads without leaving the group: for a join that failed. Without the lock.
  ~EmbeddedHost();

  // Waits until this host is a member. The Error carries membership's words. With the lock.
  Result<void> wait_until_member(std::unique_lock<std::mutex>& lock, const std::function<void(std::string_view)>& progress);

  // The end of the process: waits until what was accepted has arrived (bounded), leaves the group (bounded), ends the threads. The
  // sockets were closed already. Afterwards nothing of this object may be used; it is never destroyed then,
  // because threads of the program may still be inside it, parked.
  void leave(std::unique_lock<std::mutex>& lock, Nanos linger);

  // Has membership read the leases as soon as it can.
  void look_at_leases_now() {
    board_.nudge();
    membership_medium_->wake();
  }

  Engine& engine() { return *engine_; }
  Driving& driving() { return *driving_; }
  MembershipBoard& board() { return board_; }
  Storage& storage() { return *storage_; }
  const Superblock& superblock() const { return storage_->superblock(); }
  // Twice the detection bound: no honest wait for a peer lasts longer.
  Nanos patience() const { return 2 * static_cast<Nanos>(superblock().timing.detection_ms()) * kMillisecond; }
  const std::string& base_name() const { return base_name_; }

 private:
  EmbeddedHost() = default;
  void start_membership_thread();
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
