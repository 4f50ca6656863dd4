// A disk of memory for unit tests, and media on it, in simulated time. By default every request takes 1 ms; a test
// gives each medium a `fate` to delay, fail, lose, or land late what it likes. Deterministic, one thread.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "stp/medium.h"

namespace stp {

struct FakeFate {
  Nanos complete_after = kMillisecond;
  int error = 0;
  // Writes: when the bytes reach the disk, which may be long after the completion. Without a value: at the completion, and
  // never when that is an error.
  Nanos land_after = -1;
  bool lost = false;  // completes, never lands
};

class FakeDisk {
 public:
  FakeDisk(std::uint32_t block_size, std::uint64_t blocks) : block_size_(block_size), data_(block_size * blocks) {}

  std::uint32_t block_size() const { return block_size_; }
  std::uint64_t blocks() const { return data_.size() / block_size_; }
  Bytes block(std::uint64_t number) { return Bytes(data_).subspan(number * block_size_, block_size_); }
  Nanos now() const { return now_; }

  void at(Nanos when, std::function<void()> what) { events_.emplace(when, std::move(what)); }
  Nanos next_event() const { return events_.empty() ? kNever : events_.begin()->first; }
  // Lets everything up to `when` happen, in order.
  void advance(Nanos when) {
    while (next_event() <= when) {
      now_ = std::max(now_, events_.begin()->first);
      auto node = events_.extract(events_.begin());
      node.mapped()();
    }
    now_ = std::max(now_, when);
  }

 private:
  std::uint32_t block_size_;
  std::vector<std::byte> data_;
  std::multimap<Nanos, std::function<void()>> events_;  // equal times: in the order of submission
  Nanos now_ = 0;
};

class FakeMedium : public Medium {
 public:
  explicit FakeMedium(FakeDisk& disk) : disk_(disk), state_(std::make_shared<State>()) {}
  // A process that dies: what it submitted still lands, nobody hears of it.
  ~FakeMedium() override { state_->alive = false; }

  std::function<FakeFate(const IoRequest&)> fate;
  std::uint64_t reads = 0, writes = 0;
  Nanos last_landing = 0;  // of all writes so far
  std::size_t completions() const { return state_->done.size(); }
  std::size_t in_flight() const { return state_->in_flight; }

  std::uint32_t block_size() const override { return disk_.block_size(); }
  std::uint64_t total_blocks() const override { return disk_.blocks(); }
  void submit(const IoRequest& r) override {
    const FakeFate f = fate ? fate(r) : FakeFate{};
    ++state_->in_flight;
    r.op == IoRequest::Op::kRead ? ++reads : ++writes;
    if (r.op == IoRequest::Op::kWrite && !f.lost && (f.error == 0 || f.land_after >= 0)) {
      std::vector<std::byte> bytes(r.buffer, r.buffer + std::size_t{r.blocks} * disk_.block_size());
      const Nanos landing = disk_.now() + (f.land_after >= 0 ? f.land_after : f.complete_after);
      last_landing = std::max(last_landing, landing);
      disk_.at(landing, [this_disk = &disk_, r, bytes = std::move(bytes)] {
        std::memcpy(this_disk->block(r.block).data(), bytes.data(), bytes.size());
      });
    }
    disk_.at(disk_.now() + f.complete_after, [disk = &disk_, state = state_, r, f] {
      if (!state->alive) return;
      if (r.op == IoRequest::Op::kRead && f.error == 0)
        std::memcpy(r.buffer, disk->block(r.block).data(), std::size_t{r.blocks} * disk->block_size());
      --state->in_flight;
      state->done.push_back({r.token, f.error});
    });
  }
  void flush() override {}
  std::size_t reap(std::span<IoCompletion> out) override {
    const std::size_t n = std::min(out.size(), state_->done.size());
    std::copy_n(state_->done.begin(), n, out.begin());
    state_->done.erase(state_->done.begin(), state_->done.begin() + static_cast<std::ptrdiff_t>(n));
    return n;
  }
  void wait(Nanos, Nanos) override {}
  void wake() override {}

 private:
  struct State {
    bool alive = true;
    std::size_t in_flight = 0;
    std::vector<IoCompletion> done;
  };
  FakeDisk& disk_;
  std::shared_ptr<State> state_;
};

}  // namespace stp
