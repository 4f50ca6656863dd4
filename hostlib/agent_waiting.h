// Waiting in a program that an agent serves. A thread that waits for one socket sleeps on that socket's shadow, and whoever is on the
// other side wakes it directly. Threads that wait for several, and event loops, are told by the news thread of agent_host.h.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

#include "hostlib/agent_sockets.h"
#include "hostlib/waiting.h"

namespace stp::host {

class AgentWaiting final : public Waiting {
 public:
  explicit AgentWaiting(AgentSockets& sockets);

  Woken wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline) override;
  Woken wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline) override;
  std::unique_ptr<Bystander> stand_by(std::span<Watch> watches, int bell) override;
  // What was published is seen at once: there is nothing to step, only to look afresh now and then.
  void step(Nanos now, bool keep = false) override;
  bool keeps() const override { return false; }
  void carry_out() override {}
  void let_go() override {}
  void step_soon(Nanos, std::uint64_t) override {}
  void ready(Socket& socket, std::uint32_t bits) override;
  void set_spin(Nanos spin) override { spin_.store(spin, std::memory_order_relaxed); }
  void park_all_others() override;
  // In the child of a fork: the threads that waited are its parent's.
  void forget_waiters() {
    waiters_.clear();
    spinning_.store(0, std::memory_order_relaxed);
  }

 private:
  class Standing;
  bool parks() const;
  [[noreturn]] static void park(std::unique_lock<std::mutex>& lock);
  bool satisfied(const AgentSocketEntry& entry, std::uint32_t bits) const;

  AgentSockets& sockets_;
  std::atomic<Nanos> spin_{200 * kMicrosecond};
  const int most_spinning_;         // threads at a time: who spins takes a core from those who have something to do
  std::atomic<int> spinning_{0};
  Nanos looks_afresh_at_ = 0;
  std::atomic<bool> parked_{false};
  std::thread::id ender_;
  std::vector<AgentWaiter*> waiters_;  // in wait_any
};

}  // namespace stp::host
