// Who calls the engine's step() and sleeps on its medium: the driver.
//
// A thread that would block becomes the driver when nobody is: it steps the engine, sleeps on the medium and finds its own data
// there, without a hand-over or a wake-up by another thread (30-40 us each on small virtual machines). Others that wait
// sleep on a futex of their own and are woken when the driver sees what they wait for. A driver that is done hands the
// role to one that began to wait a moment ago; one that has waited long (it accepts, say) gives the role up to one that comes, and
// gets it back when nobody took it for a while. While nobody waits (the program computes), a fallback thread drives: it takes the role when it
// was free for kFallbackAfter, and steps out of it as soon as a thread of the program wants it.
//
// Only the driver sleeps on the medium, so there is at most one there. Any thread may step the engine under the
// lock. All member functions want the lock held, but for the spin setter and board_changed().
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <thread>

#include "hostlib/waiting.h"
#include "stp/engine.h"
#include "stp/medium.h"

namespace stp::host {

class Driving final : public Waiting {
 public:
  Driving(std::mutex& mutex, Engine& engine, Medium& medium);
  ~Driving() override;
  Driving(const Driving&) = delete;
  Driving& operator=(const Driving&) = delete;

  // -- See Waiting. With kOneStep a wait without a socket also ends when the engine had something to do.
  static constexpr std::uint32_t kOneStep = 1u << 31;
  Woken wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline) override;
  Woken wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline) override;
  // A bystander never has the role; the fallback drives at once.
  std::unique_ptr<Bystander> stand_by(std::span<Watch> watches, int bell) override;
  // One step of the engine, by whoever called something that queued; wakes a driver that would sleep too long.
  void step(Nanos now, bool keep = false) override;
  bool keeps() const override { return medium_.keeps(); }
  void carry_out() override { medium_.carry_out(); }
  void let_go() override { medium_.let_go(); }
  void step_soon(Nanos now, std::uint64_t bytes) override;
  // From EngineEvents::on_ready.
  void ready(Socket& socket, std::uint32_t bits) override;
  void set_spin(Nanos spin) override { spin_.store(spin, std::memory_order_relaxed); }
  void park_all_others() override;

  // Has those who wait without a socket wait for `fd` too (Medium::watch), once. False: the medium can not.
  bool watch(int fd) { return watches_ = medium_.watch(fd); }
  bool watching() const { return watches_ && medium_.watching(); }

  // Any thread, without the lock.
  void board_changed();
  Nanos spin() const { return spin_.load(std::memory_order_relaxed); }

  bool start_fallback();  // false: no room for a thread
  // Ends the fallback thread. Without the lock.
  void stop_fallback();

 private:
  class Standing;
  class ThreadEnd;
  // For threads that end when this is gone.
  struct Life {
    std::shared_mutex mutex;
    Driving* driving = nullptr;
  };
  // When a thread ends that handed requests to the kernel (Medium::under_way_by_this_thread): somebody else is to drive, and it stays for a moment, until
  // they have completed. Without the lock.
  void thread_ends(const Medium::Count& under_way);
  bool take(Waiter& waiter);
  void leave();
  void hand_on(Nanos since);
  void give(Waiter& waiter);
  std::optional<Woken> drive(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline);
  bool sleep_on_medium(std::unique_lock<std::mutex>& lock, Nanos until, bool may_spin);
  Woken wait_as(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline);
  static void watch(Waiter& waiter);
  void enlist(Waiter& waiter);
  void dismiss(Waiter& waiter);
  bool interrupts(const Waiter& waiter) const;
  bool news(const Waiter& waiter) const;
  void signal(Waiter& waiter);
  void wake_held_back();
  void signal_board_waiters();
  void drive_as_fallback(std::unique_lock<std::mutex>& lock);
  void fallback_loop();
  [[noreturn]] void park(std::unique_lock<std::mutex>& lock);

  const std::shared_ptr<Life> life_ = std::make_shared<Life>();
  std::mutex& mutex_;
  Engine& engine_;
  Medium& medium_;

  enum class Driver { kNobody, kProgram, kFallback };
  Driver driver_ = Driver::kNobody;
  Waiter* driving_ = nullptr;   // the driver's, when it is a thread of the program
  Waiter* wanted_by_ = nullptr;  // who asked the driver to hand the role over
  std::uint64_t times_taken_ = 0;
  Waiter* first_ = nullptr;     // all waiters, oldest first
  Waiter* last_ = nullptr;
  int bystanders_ = 0;
  bool watches_ = false;        // until those who wait for it were told
  bool asleep_ = false;         // the driver is in (or on its way into) medium.wait
  Nanos asleep_until_ = 0;
  Nanos next_step_ = 0;         // when the engine wants to be called again
  Nanos stepped_at_ = 0;
  // Whom the driver's step signalled: woken when the lock is free, for the first thing that they do is to take it.
  std::array<std::atomic<std::uint32_t>*, 32> held_back_{};
  std::size_t held_back_count_ = 0;
  bool holds_back_ = false;
  std::uint64_t credit_bytes_ = 0;  // given back since the last step
  Nanos left_at_ = 0;           // when the role last became free

  std::atomic<Nanos> spin_{200 * kMicrosecond};
  std::atomic<bool> board_changed_{false};

  std::thread fallback_;
  std::condition_variable fallback_sleep_;
  Nanos fallback_until_ = 0;    // it looks again then
  bool fallback_asked_ = false;  // to drive at once
  bool stop_fallback_ = false;
  bool parked_ = false;
  std::thread::id ender_;
};

}  // namespace stp::host
