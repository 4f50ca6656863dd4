#include "hostlib/driving.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "hostlib/interrupts.h"
#include "hostlib/quiet_thread.h"
#include "stp/system.h"

namespace stp::host {

// A thread in wait(). On its stack; touched by others only under the lock and while enlisted.
struct Waiter {
  std::span<Watch> watches;            // empty: the membership board
  bool one_step = false;
  bool any_signal = false;             // a handler with SA_RESTART ends it, too
  int bell = -1;                       // of a bystander
  Nanos since = 0;                     // when the wait began
  bool signalled = false;
  std::atomic<std::uint32_t> word{0};  // counts up at each wake
  Waiter* next = nullptr;              // of all
  Waiter* previous = nullptr;
};

namespace {

constexpr Nanos kLongestSleep = 250 * kMillisecond;  // nobody sleeps longer without a look
constexpr Nanos kFallbackAfter = 2 * kMillisecond;
constexpr Nanos kCold = kMillisecond;  // who has waited longer waits for something rare: the role goes to others first
constexpr Nanos kFallbackLongest = 100 * kMillisecond;
constexpr Nanos kCreditWithin = 50 * kMicrosecond;
constexpr std::uint64_t kCreditBytes = 64 * 1024;

// Sleeps while `word` is `seen`. False when a signal ended it.
bool futex_sleep(std::atomic<std::uint32_t>& word, std::uint32_t seen, Nanos span) {
  static_assert(sizeof(word) == sizeof(std::uint32_t));
  struct timespec timeout = {.tv_sec = static_cast<time_t>(span / kSecond), .tv_nsec = static_cast<long>(span % kSecond)};
  return ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &timeout, nullptr, 0) == 0 || errno != EINTR;
}

void futex_wake(std::atomic<std::uint32_t>& word) { (void)::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }

}  // namespace

Driving::Driving(std::mutex& mutex, Engine& engine, Medium& medium) : mutex_(mutex), engine_(engine), medium_(medium) {
  life_->driving = this;
}

Driving::~Driving() {
  {
    const std::unique_lock lock(life_->mutex);
    life_->driving = nullptr;
  }
  stop_fallback();
}

namespace {
thread_local constinit bool end_was_seen = false;  // the main thread steps after that, too
}

// Of a thread that stepped.
class Driving::ThreadEnd {
 public:
  ~ThreadEnd() {
    end_was_seen = true;
    const bool process_ends = ::gettid() == ::getpid();  // a child of fork has no other thread either
    if (process_ends || under_way_ == nullptr || under_way_->load() == 0) return;
    const std::shared_lock lock(life_->mutex);
    if (life_->driving != nullptr) life_->driving->thread_ends(*under_way_);
  }
  static void note(Driving& driving) {
    if (end_was_seen) return;
    thread_local ThreadEnd end;
    if (end.life_ == driving.life_) return;
    end.life_ = driving.life_;
    end.under_way_ = driving.medium_.under_way_by_this_thread();
  }

 private:
  std::shared_ptr<Life> life_;
  std::shared_ptr<const Medium::Count> under_way_;
};

void Driving::thread_ends(const Medium::Count& under_way) {
  constexpr Nanos kLongest = 20 * kMillisecond;
  constexpr struct timespec kMoment = {.tv_sec = 0, .tv_nsec = 20'000};
  // Whoever has the lock steps, or is about to; perhaps it is who destroys this, and waits for this thread.
  if (const std::unique_lock lock(mutex_, std::try_to_lock); lock && driver_ == Driver::kNobody) {
    fallback_asked_ = first_ == nullptr;
    fallback_until_ = 0;
    fallback_sleep_.notify_one();
    if (first_ != nullptr) hand_on(0);
  }
  const Nanos until = boottime_now() + kLongest;
  while (under_way.load() > 0 && boottime_now() < until) (void)::nanosleep(&kMoment, nullptr);
}

// -- Waiting -------------------------------------------------------------------------------------------------------

void Driving::watch(Waiter& waiter) {
  for (Watch& watch : waiter.watches) watch.waiter = &waiter;
  put_on_lists(waiter.watches);
}

void Driving::enlist(Waiter& waiter) {
  waiter.previous = last_;
  (last_ != nullptr ? last_->next : first_) = &waiter;
  last_ = &waiter;
  watch(waiter);
}

void Driving::dismiss(Waiter& waiter) {
  (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
  (waiter.next != nullptr ? waiter.next->previous : last_) = waiter.previous;
  if (wanted_by_ == &waiter) wanted_by_ = nullptr;
  take_off_lists(waiter.watches);
}

// Whether there is a reason to return to the caller.
bool Driving::news(const Waiter& waiter) const {
  const bool parks = parked_ && ender_ != std::this_thread::get_id();  // who ends the process goes on driving
  // Who waits for many is signalled by the close; this is for one that was closed before the wait began.
  const bool closed = waiter.watches.size() == 1 && waiter.watches[0].socket->closed && (waiter.watches[0].bits & Ready::kDrained) == 0;
  return waiter.signalled || parks || closed;
}

void Driving::signal(Waiter& waiter) {
  if (waiter.signalled) return;
  waiter.signalled = true;
  if (waiter.bell >= 0) {
    const std::uint64_t one = 1;
    (void)!::write(waiter.bell, &one, sizeof one);
    return;
  }
  waiter.word.fetch_add(1, std::memory_order_release);
  if (&waiter == driving_) {
    if (asleep_) medium_.wake();
  } else if (holds_back_ && held_back_count_ < held_back_.size()) {
    held_back_[held_back_count_++] = &waiter.word;
  } else {
    futex_wake(waiter.word);
  }
}

void Driving::wake_held_back() {
  for (std::size_t i = 0; i < held_back_count_; ++i) futex_wake(*held_back_[i]);
  held_back_count_ = 0;
}

void Driving::ready(Socket& socket, std::uint32_t bits) {
  for (Watch* watch = socket.watches; watch != nullptr; watch = watch->next_here)
    if ((watch->bits & bits) != 0) signal(*watch->waiter);
}

void Driving::board_changed() {
  board_changed_.store(true, std::memory_order_release);
  medium_.wake();
}

void Driving::signal_board_waiters() {
  for (Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next)
    if (waiter->watches.empty()) signal(*waiter);
}

Woken Driving::wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline) {
  Watch watch{.socket = socket, .bits = bits};
  Waiter waiter;
  if (socket != nullptr) waiter.watches = {&watch, 1};
  waiter.one_step = socket == nullptr && bits == kOneStep;
  return wait_as(lock, waiter, deadline);
}

Woken Driving::wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline) {
  Waiter waiter;
  waiter.watches = watches;
  waiter.any_signal = true;
  return wait_as(lock, waiter, deadline);
}

class Driving::Standing final : public Waiting::Bystander {
 public:
  Standing(Driving& driving, std::span<Watch> watches, int bell) : driving_(driving) {
    waiter_.watches = watches;
    waiter_.bell = bell;
    watch(waiter_);
    ++driving_.bystanders_;
    if (driving_.driver_ != Driver::kNobody) return;
    driving_.fallback_until_ = 0;
    driving_.fallback_sleep_.notify_one();
  }
  ~Standing() override {
    take_off_lists(waiter_.watches);
    --driving_.bystanders_;
  }
  Standing(const Standing&) = delete;
  Standing& operator=(const Standing&) = delete;

 private:
  Driving& driving_;
  Waiter waiter_;
};

std::unique_ptr<Waiting::Bystander> Driving::stand_by(std::span<Watch> watches, int bell) {
  return std::make_unique<Standing>(*this, watches, bell);
}

bool Driving::interrupts(const Waiter& waiter) const { return waiter.any_signal || some_handler_interrupts(); }

Woken Driving::wait_as(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline) {
  if (parked_ && ender_ != std::this_thread::get_id()) park(lock);
  waiter.since = boottime_now();
  enlist(waiter);
  Woken woken = Woken::kReady;
  for (;;) {
    if (news(waiter)) break;
    if (take(waiter)) {
      const std::optional<Woken> result = drive(lock, waiter, deadline);
      if (!result) continue;
      woken = *result;
      break;
    }
    const Nanos now = boottime_now();
    if (now >= deadline) {
      step(now);
      woken = news(waiter) ? Woken::kReady : Woken::kTimeout;
      break;
    }
    const std::uint32_t seen = waiter.word.load(std::memory_order_acquire);
    lock.unlock();
    const bool undisturbed = futex_sleep(waiter.word, seen, std::min(deadline - now, kLongestSleep));
    const bool interrupted = !undisturbed && interrupts(waiter);
    lock.lock();
    if (interrupted && !waiter.signalled) {
      woken = Woken::kInterrupted;
      break;
    }
  }
  dismiss(waiter);
  if (driving_ == &waiter) leave();
  if (parked_ && ender_ != std::this_thread::get_id()) park(lock);
  return woken;
}

void Driving::park(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  for (;;) ::pause();
}

void Driving::park_all_others() {
  parked_ = true;
  ender_ = std::this_thread::get_id();
  for (Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) signal(*waiter);
}

// -- The role ------------------------------------------------------------------------------------------------------

// True when `waiter` is the driver now. Asks a fallback that drives to step out, and a driver that waits for something rare to
// hand the role over: an accepting thread must not stand between a busy connection's thread and its data.
bool Driving::take(Waiter& waiter) {
  if (driving_ == &waiter) return true;  // handed over by one that left
  if (driver_ == Driver::kNobody) {
    driver_ = Driver::kProgram;
    driving_ = &waiter;
    ++times_taken_;
    return true;
  }
  if (driver_ == Driver::kFallback && asleep_) medium_.wake();
  if (driver_ == Driver::kProgram && asleep_ && wanted_by_ == nullptr && waiter.since - driving_->since >= kCold) {
    wanted_by_ = &waiter;
    medium_.wake();
  }
  return false;
}

void Driving::leave() {
  driving_ = nullptr;
  driver_ = Driver::kNobody;
  left_at_ = boottime_now();
  hand_on(left_at_ - kCold);
}

void Driving::give(Waiter& waiter) {
  driver_ = Driver::kProgram;
  driving_ = &waiter;
  waiter.word.fetch_add(1, std::memory_order_release);
  futex_wake(waiter.word);
}

// To the newest of those who began to wait after `since`. One that has waited long does not need the role at once: the thread that
// left it is likely to be back sooner than that one is awake. If it is not, the fallback hands it on.
void Driving::hand_on(Nanos since) {
  for (Waiter* waiter = last_; waiter != nullptr; waiter = waiter->previous) {
    if (waiter->signalled || waiter->since < since) continue;  // about to go, or cold
    return give(*waiter);
  }
  if (fallback_until_ > left_at_ + kFallbackAfter) {
    fallback_until_ = left_at_ + kFallbackAfter;
    fallback_sleep_.notify_one();
  }
}

std::optional<Woken> Driving::drive(std::unique_lock<std::mutex>& lock, Waiter& waiter, Nanos deadline) {
  for (;;) {
    const Nanos now = boottime_now();
    holds_back_ = true;
    step(now);
    holds_back_ = false;
    const bool ready = news(waiter);
    if (ready || now >= deadline) {
      wake_held_back();
      return ready ? Woken::kReady : Woken::kTimeout;
    }
    if (Waiter* const other = std::exchange(wanted_by_, nullptr); other != nullptr && !other->signalled) {
      wake_held_back();
      give(*other);
      return std::nullopt;
    }
    const Nanos until = std::min({next_step_, deadline, now + kLongestSleep});
    if (!sleep_on_medium(lock, until, engine_.expects_soon(now)) && interrupts(waiter)) {
      step(boottime_now());
      return news(waiter) ? Woken::kReady : Woken::kInterrupted;
    }
    if (waiter.one_step) waiter.signalled = true;
  }
}

// False when a signal ended it (a medium leaves EINTR in errno then, as system calls do).
bool Driving::sleep_on_medium(std::unique_lock<std::mutex>& lock, Nanos until, bool may_spin) {
  asleep_ = true;
  asleep_until_ = until;
  const auto held_back = held_back_;
  const std::size_t count = std::exchange(held_back_count_, 0);
  lock.unlock();
  // One that woke by itself in the meantime may be gone: a wake-up at an address where nobody sleeps, or another, harms nobody.
  for (std::size_t i = 0; i < count; ++i) futex_wake(*held_back[i]);
  errno = 0;
  medium_.wait(until, may_spin ? spin() : 0);
  const bool interrupted = errno == EINTR;
  lock.lock();
  asleep_ = false;
  if (board_changed_.exchange(false, std::memory_order_acq_rel)) signal_board_waiters();
  return !interrupted;
}

void Driving::step(Nanos now, bool keep) {
  ThreadEnd::note(*this);
  next_step_ = engine_.step(now);
  if (!keep) medium_.let_go();
  stepped_at_ = now;
  const bool watched = watches_ && !medium_.watching();
  if (watched) watches_ = false;
  if (board_changed_.exchange(false, std::memory_order_acq_rel) || watched) signal_board_waiters();
  credit_bytes_ = 0;
  if (asleep_ && next_step_ < asleep_until_) {
    asleep_until_ = next_step_;
    medium_.wake();
  }
}

void Driving::step_soon(Nanos now, std::uint64_t bytes) {
  credit_bytes_ += bytes;
  if (credit_bytes_ >= kCreditBytes || now >= next_step_ || now - stepped_at_ >= kCreditWithin) step(now);
}

// -- The fallback --------------------------------------------------------------------------------------------------

bool Driving::start_fallback() {
  return start_quiet_thread(fallback_, [this] { fallback_loop(); });
}

void Driving::stop_fallback() {
  if (!fallback_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stop_fallback_ = true;
    fallback_sleep_.notify_one();
    medium_.wake();
  }
  fallback_.join();
}

void Driving::fallback_loop() {
  std::unique_lock lock(mutex_);
  Nanos pause = kFallbackAfter;
  std::uint64_t taken_before = 0;
  while (!stop_fallback_) {
    const Nanos now = boottime_now();
    const Nanos free_since = first_ != nullptr ? left_at_ : std::max(left_at_, stepped_at_);
    const bool asked = std::exchange(fallback_asked_, false);
    if (driver_ == Driver::kNobody && (bystanders_ > 0 || asked || now - free_since >= kFallbackAfter)) {
      pause = kFallbackAfter;
      if (first_ == nullptr) {
        drive_as_fallback(lock);
        continue;
      }
      hand_on(0);  // nobody takes it when all were signalled: they need the lock, to go
    }
    // While a thread of the program stays in the role, look less and less often (the one that leaves it wakes us). One that
    // takes and leaves it all the time is not to be burdened with waking us.
    const bool stays = driver_ == Driver::kProgram && times_taken_ - taken_before <= 1;
    taken_before = times_taken_;
    pause = stays ? std::min(2 * pause, kFallbackLongest) : kFallbackAfter;
    fallback_until_ = now + pause;
    while (!stop_fallback_) {
      const Nanos left = fallback_until_ - boottime_now();
      if (left <= 0) break;
      fallback_sleep_.wait_for(lock, std::chrono::nanoseconds(left));
    }
  }
}

void Driving::drive_as_fallback(std::unique_lock<std::mutex>& lock) {
  driver_ = Driver::kFallback;
  while (!stop_fallback_ && first_ == nullptr) {
    const Nanos now = boottime_now();
    step(now);
    if (first_ != nullptr) break;
    (void)sleep_on_medium(lock, std::min(next_step_, now + kLongestSleep), false);
  }
  left_at_ = boottime_now();
  driver_ = Driver::kNobody;
  hand_on(0);
}

}  // namespace stp::host
