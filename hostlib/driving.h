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

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include "hostlib/socket.h"
#include "stp/engine.h"
#include "stp/medium.h"

namespace stp::host {

enum class Woken { kReady, kTimeout, kInterrupted };

struct Waiter;

// One socket that a thread waits for, and what of it. A node of the socket's list while the thread waits.
struct Watch {
  Socket* socket = nullptr;
  std::uint32_t bits = 0;
  Waiter* waiter = nullptr;
  Watch* next_here = nullptr;  // of the socket
};

class Driving {
 public:
  Driving(std::mutex& mutex, Engine& engine, Medium& medium);
  ~Driving();
  Driving(const Driving&) = delete;
  Driving& operator=(const Driving&) = delete;

  // Waits until any of `bits` may have become true of `socket`, the socket was closed by its program, or `deadline`. Spurious
  // returns of kReady are possible: look again. socket nullptr: until the membership board changed, or with kOneStep the engine
  // had something to do.
  static constexpr std::uint32_t kOneStep = 1u << 31;
  Woken wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline);

  // The same for any of several sockets; any signal handler that runs ends it, as it ends poll(2).
  Woken wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline);

  // For a thread that sleeps elsewhere meanwhile: `bell` (an eventfd) is written when any of `watches` may have become true. It never
  // has the role; the fallback drives at once. Made and destroyed with the lock held.
  class Bystander {
   public:
    Bystander(Driving& driving, std::span<Watch> watches, int bell);
    ~Bystander();
    Bystander(const Bystander&) = delete;
    Bystander& operator=(const Bystander&) = delete;

   private:
    Driving& driving_;
    std::unique_ptr<Waiter> waiter_;
  };

  // One step of the engine, by whoever called something that queued; wakes a driver that would sleep too long.
  // `keep`: a write that the engine wants done promptly may wait for the caller's carry_out(), without the lock; else it is let go.
  void step(Nanos now, bool keep = false);
  bool keeps() const { return medium_.keeps(); }
  void carry_out() { medium_.carry_out(); }
  void let_go() { medium_.let_go(); }
  // The same, unless one was made within the last moments and nothing waits for it: for calls that only give back credit.
  void step_soon(Nanos now, std::uint64_t bytes);

  // From EngineEvents::on_ready.
  void ready(Socket& socket, std::uint32_t bits);
  // Any thread, without the lock.
  void board_changed();
  void set_spin(Nanos spin) { spin_.store(spin, std::memory_order_relaxed); }
  Nanos spin() const { return spin_.load(std::memory_order_relaxed); }

  void start_fallback();
  // Ends the fallback thread. Without the lock.
  void stop_fallback();
  // The process ends: threads of the program that wait, or come to wait, stay where they are for good, except the calling one.
  void park_all_others();

 private:
  bool take(Waiter& waiter);
  void leave();
  void hand_on(Nanos since);
  void give(Waiter& waiter);
  std::optional<Woken> drive(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline);
  bool sleep_on_medium(std::unique_lock<std::mutex>& lock, Nanos until, bool may_spin);
  Woken wait_as(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline);
  static void watch(Waiter& waiter);
  static void unwatch(Waiter& waiter);
  void enlist(Waiter& waiter);
  void dismiss(Waiter& waiter);
  bool interrupts(const Waiter& waiter) const;
  bool news(const Waiter& waiter) const;
  void signal(Waiter& waiter);
  void signal_board_waiters();
  void drive_as_fallback(std::unique_lock<std::mutex>& lock);
  void fallback_loop();
  [[noreturn]] void park(std::unique_lock<std::mutex>& lock);

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
  bool asleep_ = false;         // the driver is in (or on its way into) medium.wait
  Nanos asleep_until_ = 0;
  Nanos next_step_ = 0;         // when the engine wants to be called again
  Nanos stepped_at_ = 0;
  std::uint64_t credit_bytes_ = 0;  // given back since the last step
  Nanos left_at_ = 0;           // when the role last became free

  std::atomic<Nanos> spin_{200 * kMicrosecond};
  std::atomic<bool> board_changed_{false};

  std::thread fallback_;
  std::condition_variable fallback_sleep_;
  Nanos fallback_until_ = 0;    // it looks again then
  bool stop_fallback_ = false;
  bool parked_ = false;
  std::thread::id ender_;
};

}  // namespace stp::host
