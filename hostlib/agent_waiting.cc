#include "hostlib/agent_waiting.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <utility>

#include "hostlib/interrupts.h"
#include "stp/spin.h"
#include "stp/system.h"

namespace stp::host {

// A thread that waits for several sockets. On its stack; touched by others only under the lock.
struct AgentWaiter {
  int bell = -1;  // of a bystander
  bool signalled = false;
  std::atomic<std::uint32_t> word{0};
};

namespace {

constexpr Nanos kLongestSleep = 250 * kMillisecond;  // nobody sleeps longer without a look
constexpr Nanos kBoardPeriod = 10 * kMillisecond;
constexpr Nanos kMissedTurn = kMillisecond;
constexpr Nanos kGather = kMicrosecond;

void link(std::span<Watch> watches, AgentWaiter& waiter) {
  for (Watch& watch : watches) watch.agent_waiter = &waiter;
  put_on_lists(watches);
}

void signal(AgentWaiter& waiter) {
  if (waiter.signalled) return;
  waiter.signalled = true;
  if (waiter.bell >= 0) {
    const std::uint64_t one = 1;
    (void)!::write(waiter.bell, &one, sizeof one);
    return;
  }
  waiter.word.fetch_add(1, std::memory_order_release);
  (void)::syscall(SYS_futex, &waiter.word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// Less than a second. False when a signal ended it.
bool sleep_for(Nanos span) {
  const struct timespec pause = {.tv_sec = 0, .tv_nsec = static_cast<long>(span)};
  return ::nanosleep(&pause, nullptr) == 0;
}

bool sleep_on(std::atomic<std::uint32_t>& word, std::uint32_t seen, Nanos span) {
  const struct timespec timeout = {.tv_sec = static_cast<time_t>(span / kSecond), .tv_nsec = static_cast<long>(span % kSecond)};
  return ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &timeout, nullptr, 0) == 0 || errno != EINTR;
}

}  // namespace

AgentWaiting::AgentWaiting(AgentSockets& sockets) : sockets_(sockets), most_spinning_(static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN) / 2)) {}

bool AgentWaiting::parks() const { return parked_.load(std::memory_order_acquire) && ender_ != std::this_thread::get_id(); }

void AgentWaiting::park(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  for (;;) ::pause();
}

bool AgentWaiting::satisfied(const AgentSocketEntry& entry, std::uint32_t bits) const {
  if ((bits & Ready::kDrained) != 0 && !sockets_.closing(entry.id)) return true;
  return (entry.bits() & bits) != 0;
}

Woken AgentWaiting::wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline) {
  if (parks()) park(lock);
  const Nanos began = boottime_now();
  if (socket == nullptr) {
    // Something of the group: asked for again and again, seldom and not for long.
    lock.unlock();
    (void)sleep_for(std::clamp<Nanos>(deadline - began, 0, kBoardPeriod));
    lock.lock();
    return Woken::kReady;
  }
  const std::shared_ptr<AgentSocketEntry> entry = sockets_.find(socket->id);
  if (entry == nullptr) return Woken::kReady;
  if (std::exchange(entry->turn_missed, false)) {
    // What is wanted is there, and another of the family in the middle of taking or filling it: it gets a moment.
    lock.unlock();
    const bool undisturbed = sleep_for(std::clamp<Nanos>(deadline - began, 0, kMissedTurn));
    lock.lock();
    if (!undisturbed && some_handler_interrupts()) return Woken::kInterrupted;
    return boottime_now() >= deadline ? Woken::kTimeout : Woken::kReady;
  }
  if (entry->gathers) {
    if (most_spinning_ <= 0 || spin_.load(std::memory_order_relaxed) <= 0) return Woken::kReady;
    lock.unlock();
    for (const Nanos until = began + kGather; boottime_now() < until;) {
    }
    lock.lock();
    return Woken::kReady;
  }
  ShadowSide& mine = entry->end.mine();
  ShadowSide& theirs = entry->end.theirs();
  ++entry->sleepers;
  bool marked = false;  // only before a sleep: a sender that finds no mark has nothing to do
  // Who waits for room goes by what earlier waits taught: a stream to a disk seldom has any soon. An answer may always be near.
  Spin for_input;
  Spin& spin = !entry->local && (bits & Ready::kWrite) != 0 ? entry->output_spin : for_input;
  Woken woken = Woken::kReady;
  for (;;) {
    const std::uint32_t seen = mine.bell.load(std::memory_order_acquire);
    const auto shown = [&] {
      constexpr auto relaxed = std::memory_order_relaxed;
      return std::tuple(theirs.tail.load(relaxed), theirs.head.load(relaxed), theirs.ended.load(relaxed), theirs.deaf.load(relaxed), mine.state.load(relaxed),
                        mine.queued.load(relaxed));
    };
    const auto before = shown();  // ahead of the look: what comes after it is seen to change
    const bool closed = socket->closed && (bits & Ready::kDrained) == 0;
    if (closed || parks() || sockets_.find(socket->id) != entry || satisfied(*entry, bits)) break;
    const Nanos now = boottime_now();
    if (now >= deadline) {
      woken = Woken::kTimeout;
      break;
    }
    lock.unlock();
    const auto moved = [&] { return shown() != before || mine.bell.load(std::memory_order_relaxed) != seen; };
    SpinningThread one_of_few(spinning_, most_spinning_);
    const Nanos longest = one_of_few ? spin_.load(std::memory_order_relaxed) : 0;
    bool undisturbed = true;
    const bool spun = spin.run(std::min(deadline, now + kLongestSleep), longest, moved);
    one_of_few.leave();
    if (!spun) {
      // The mark may be another's, who takes it off when it goes.
      if (marked && (mine.waiting.load(std::memory_order_relaxed) & ShadowSide::kSleeps) != 0)
        undisturbed = ShadowEnd::sleep(mine, seen, std::min(deadline - now, kLongestSleep));
      else
        mine.waiting.fetch_or(ShadowSide::kSleeps, std::memory_order_seq_cst);  // and another look
      marked = true;
    }
    const bool interrupted = !undisturbed && some_handler_interrupts();
    const bool long_ago = boottime_now() - now >= kLongestSleep;
    lock.lock();
    if (long_ago && !interrupted) break;  // the caller looks whether its descriptor is still there
    if (interrupted && !satisfied(*entry, bits) && !socket->closed) {
      woken = Woken::kInterrupted;
      break;
    }
  }
  // With a family others may sleep there too: their mark stays.
  if (--entry->sleepers == 0 && entry->family == nullptr && !entry->gone && (mine.waiting.load(std::memory_order_relaxed) & ShadowSide::kSleeps) != 0)
    mine.waiting.fetch_and(~ShadowSide::kSleeps, std::memory_order_seq_cst);
  if (parks()) park(lock);
  return woken;
}

void AgentWaiting::step(Nanos now, bool) {
  if (now < looks_afresh_at_) return;
  looks_afresh_at_ = now + kLongestSleep;
  sockets_.doubt();
}

Woken AgentWaiting::wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline) {
  if (parks()) park(lock);
  AgentWaiter waiter;
  link(watches, waiter);
  waiters_.push_back(&waiter);
  Woken woken = Woken::kReady;
  const Nanos now = boottime_now();
  if (now >= deadline) woken = Woken::kTimeout;
  if (woken == Woken::kReady) {
    const std::uint32_t seen = waiter.word.load(std::memory_order_acquire);
    lock.unlock();
    // Whatever ends it, the caller looks again: a look costs little, and none is skipped for longer than this.
    const bool undisturbed = sleep_on(waiter.word, seen, std::min(deadline - now, kLongestSleep));
    lock.lock();
    if (!undisturbed && !waiter.signalled) woken = Woken::kInterrupted;
    step(boottime_now());
  }
  std::erase(waiters_, &waiter);
  take_off_lists(watches);
  if (parks()) park(lock);
  return woken;
}

class AgentWaiting::Standing final : public Waiting::Bystander {
 public:
  Standing(std::span<Watch> watches, int bell) : watches_(watches) {
    waiter_.bell = bell;
    link(watches_, waiter_);
  }
  ~Standing() override { take_off_lists(watches_); }
  Standing(const Standing&) = delete;
  Standing& operator=(const Standing&) = delete;

 private:
  std::span<Watch> watches_;
  AgentWaiter waiter_;
};

std::unique_ptr<Waiting::Bystander> AgentWaiting::stand_by(std::span<Watch> watches, int bell) {
  return std::make_unique<Standing>(watches, bell);
}

void AgentWaiting::ready(Socket& socket, std::uint32_t bits) {
  for (Watch* watch = socket.watches; watch != nullptr; watch = watch->next_here)
    if ((watch->bits & bits) != 0) signal(*watch->agent_waiter);
  if (const auto entry = sockets_.find(socket.id); entry != nullptr && entry->sleepers > 0) ShadowEnd::wake(entry->end.mine());
}

void AgentWaiting::park_all_others() {
  ender_ = std::this_thread::get_id();
  parked_.store(true, std::memory_order_release);
  for (AgentWaiter* waiter : waiters_) signal(*waiter);
}

}  // namespace stp::host
