#include "tools/raw_ceiling.h"

#include <atomic>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include "stp/checksum.h"
#include "stp/cpu_cache.h"
#include "stp/medium.h"
#include "stp/storage.h"
#include "tools/own_processors.h"

namespace stp {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

// What the two sides tell each other: how many requests landed, in order, and how many were read, in order.
struct Shared {
  std::atomic<std::uint64_t> landed{0};
  std::atomic<std::uint64_t> taken{0};
  std::atomic<bool> stopped{false};  // no more will land
  std::atomic<int> error{0};
  void stop_with(int code) {
    if (code != 0) error = code;
    stopped = true;
  }
};

// Completions come in any order; this counts how far they reach without a gap.
class Prefix {
 public:
  std::uint64_t add(std::uint64_t number) {
    early_.insert(number);
    while (!early_.empty() && *early_.begin() == next_) {
      early_.erase(early_.begin());
      ++next_;
    }
    return next_;
  }

 private:
  std::uint64_t next_ = 0;
  std::set<std::uint64_t> early_;
};

constexpr std::size_t kSize = RawCeiling::kRequestBytes;
constexpr unsigned kDepth = RawCeiling::kDepth;
constexpr std::uint64_t kWindow = 64;  // requests written and not yet read: 16 MiB, measured to be the best

// Free tokens, each with its buffer and the number of the request that it carries.
struct Window {
  std::vector<AlignedBuffer> memory = AlignedBuffer::of_huge_page(kSize);  // as our own side has it
  std::uint64_t number[kDepth] = {};
  std::vector<unsigned> free = {0, 1, 2, 3};
  std::byte* buffer(unsigned token) const { return memory[token].data(); }
  std::size_t in_flight() const { return kDepth - free.size(); }
};
static_assert(kDepth == 4);

// No device shall find anything to spare in it.
void fill(std::byte* buffer) {
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i + 8 <= kSize; i += 8) {
    const std::uint64_t value = random();
    std::memcpy(buffer + i, &value, 8);
  }
}

// The program's side of a request, where the payload is touched; else nothing.
class Program {
 public:
  Program(RawCeiling::Payload payload, bool writes, bool evicts) : evicts_(evicts) {
    if (payload == RawCeiling::Payload::kUntouched) return;
    bytes_ = AlignedBuffer(kSize);
    fill(bytes_.data());
    while (writes && kept_.size() < kKept)
      for (AlignedBuffer& buffer : AlignedBuffer::of_huge_page(kSize)) fill(kept_.emplace_back(std::move(buffer)).data());  // there before the clock runs
  }
  // What is to be written: the request's own buffer, or a copy of the program's bytes that is kept for a while.
  const std::byte* give(std::byte* own, std::uint64_t number) {
    if (!bytes_) return own;
    std::byte* const kept = kept_[number % kept_.size()].data();
    std::memcpy(kept, bytes_.data(), kSize);
    hashes_ += hash64(number, {kept, kSize});
    return kept;
  }
  void take(const std::byte* read, std::uint64_t number) {
    if (!bytes_) return;
    hashes_ += hash64(number, {read, kSize});
    std::memcpy(bytes_.data(), read, kSize);
    if (evicts_) evict_from_cpu_cache({read, kSize});  // as our own side does
  }

 private:
  static constexpr std::size_t kKept = 32;
  const bool evicts_;
  AlignedBuffer bytes_;
  std::vector<AlignedBuffer> kept_;
  std::uint64_t hashes_ = 0;
};

void write_side(RawQueue& queue, std::uint64_t places, double pace, bool followed, Clock::time_point end, Shared& shared, Program& program) {
  Window window;
  for (unsigned token = 0; token < kDepth; ++token) fill(window.buffer(token));
  Prefix prefix;
  std::uint64_t next = 0;
  const nanoseconds interval(pace > 0 ? static_cast<std::int64_t>(1e9 * static_cast<double>(kSize) / pace) : 0);
  Clock::time_point due = Clock::now();
  for (;;) {
    const Clock::time_point now = Clock::now();
    const bool over = now >= end || shared.error != 0;
    if (over && window.in_flight() == 0) break;
    // Behind by more than a few requests: the device sets the pace, and no burst makes up for it.
    if (due < now - kDepth * interval) due = now - kDepth * interval;
    const bool room = !followed || next < shared.taken.load(std::memory_order_acquire) + kWindow;
    if (!over && !window.free.empty() && room && now >= due) {
      const unsigned token = window.free.back();
      window.free.pop_back();
      window.number[token] = next;
      queue.write(next % places * kSize, program.give(window.buffer(token), next), kSize, token);
      ++next;
      due += interval;
      continue;
    }
    nanoseconds limit = std::chrono::milliseconds(1);
    if (!over && !window.free.empty() && room) limit = std::min(limit, nanoseconds(due - now));
    if (window.in_flight() == 0) {
      std::this_thread::sleep_for(std::min(limit, nanoseconds(std::chrono::microseconds(50))));
      continue;
    }
    const RawQueue::Done done = queue.wait(limit);
    if (done.state != RawQueue::Done::State::kDone) continue;
    window.free.push_back(done.token);
    if (done.error != 0) shared.stop_with(done.error);
    shared.landed.store(prefix.add(window.number[done.token]), std::memory_order_release);
    shared.landed.notify_one();
  }
  shared.stop_with(0);
  shared.landed.fetch_add(0, std::memory_order_release);
  shared.landed.notify_one();
}

void read_side(RawQueue& queue, std::uint64_t places, Shared& shared, Program& program) {
  Window window;
  Prefix prefix;
  std::uint64_t next = 0;
  for (;;) {
    const bool over = shared.stopped;
    const std::uint64_t landed = shared.landed.load(std::memory_order_acquire);
    if ((over && next == landed && window.in_flight() == 0) || (shared.error != 0 && window.in_flight() == 0)) return;
    if (next < landed && !window.free.empty() && shared.error == 0) {
      const unsigned token = window.free.back();
      window.free.pop_back();
      window.number[token] = next;
      queue.read(next++ % places * kSize, window.buffer(token), kSize, token);
      continue;
    }
    if (window.in_flight() == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
      continue;
    }
    // Not full: more may land before a read is done.
    const RawQueue::Done done = queue.wait(window.free.empty() ? nanoseconds(std::chrono::milliseconds(10))
                                                               : nanoseconds(std::chrono::microseconds(100)));
    if (done.state != RawQueue::Done::State::kDone) continue;
    window.free.push_back(done.token);
    if (done.error != 0) shared.stop_with(done.error);
    program.take(window.buffer(done.token), window.number[done.token]);
    shared.taken.store(prefix.add(window.number[done.token]), std::memory_order_release);
  }
}

}  // namespace

Result<double> RawCeiling::run(double pace, bool read) {
  const std::uint64_t places = range_.length / kSize;
  if (places < kWindow) return fail(EINVAL, "the range for raw I/O is too small: 16 MiB are needed");
  Shared shared;
  const auto facts = probe_storage(range_.path);
  const bool evicts = facts && facts->hardware;
  Program writer_program(payload_, true, evicts), reader_program(payload_, false, evicts);
  int failed = 0;
  const Clock::time_point begin = Clock::now();
  {
    // A queue is made by the thread that uses it (io_uring with one issuer).
    auto side = [&](tools::Half half, auto&& body) {
      return std::jthread([&, half, body] {
        const tools::OnHalf own(half);
        auto queue = RawQueue::open(range_, kDepth);
        if (!queue) return shared.stop_with(queue.error().code);
        body(**queue);
      });
    };
    auto writer = side(tools::Half::kFirst, [&](RawQueue& queue) { write_side(queue, places, pace, read, begin + round_, shared, writer_program); });
    auto reader = read ? side(tools::Half::kSecond, [&](RawQueue& queue) { read_side(queue, places, shared, reader_program); }) : std::jthread();
  }
  failed = shared.error;
  if (failed != 0) return fail(failed, "raw I/O on \"" + range_.path + "\" failed: " + std::strerror(failed));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return static_cast<double>((read ? shared.taken : shared.landed).load() * kSize) / seconds;
}

Result<void> RawCeiling::calibrate() {
  auto alone = write_only(0);
  if (!alone) return std::unexpected(alone.error());
  double best = 0;
  for (const double share : {0.0, 0.95, 0.85, 0.75, 0.65, 0.55}) {
    auto rate = write_and_read(share * *alone);
    if (!rate) return std::unexpected(rate.error());
    if (*rate > best) {
      best = *rate;
      pace_ = share > 0 ? share * *alone : 0;
    }
  }
  return {};
}

Result<double> RawCeiling::measure() {
  auto at_pace = write_and_read(pace_);
  if (!at_pace) return at_pace;
  // The neighbour, now above, now below (for an unpaced writer one paced a little above what arrives), says only where to
  // measure next: the better of two noisy figures would be more than the device can do.
  const double factor = ++turn_ % 2 != 0 ? 1.1 : 0.92;
  const double neighbour = pace_ > 0 ? pace_ * factor : *at_pace * 1.15;
  auto beside = write_and_read(neighbour);
  if (!beside) return beside;
  if (*beside > *at_pace) pace_ = neighbour;
  return at_pace;
}

}  // namespace stp
