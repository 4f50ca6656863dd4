// Two engines over one array of memory, with membership played by the test: for tests of the transport alone. Every request
// completes when the test lets it (at once by default); time moves only when the test says so.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "stp/engine.h"

namespace stp::test {

inline ConstBytes bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

struct Disk {
  explicit Disk(const Geometry& g) : block_size(g.block_size), bytes(g.total_bytes()) {}
  std::uint32_t block_size;
  std::vector<std::byte> bytes;
  std::byte* at(std::uint64_t block) { return bytes.data() + block * block_size; }
};

class MemoryMedium final : public Medium {
 public:
  explicit MemoryMedium(Disk& disk) : disk_(disk) {}
  std::uint32_t block_size() const override { return disk_.block_size; }
  std::uint64_t total_blocks() const override { return disk_.bytes.size() / disk_.block_size; }
  void submit(const IoRequest& r) override {
    if (slow && slow(r)) return late_.push_back(r);
    std::size_t size = static_cast<std::size_t>(r.blocks) * disk_.block_size;
    int error = fault ? fault(r) : 0;
    if (error == 0 && r.op == IoRequest::Op::kRead) std::memcpy(r.buffer, disk_.at(r.block), size);
    if (error == 0 && r.op == IoRequest::Op::kWrite) std::memcpy(disk_.at(r.block), r.buffer, size);
    done_.push_back({r.token, std::max(error, 0)});
  }
  void flush() override {}
  std::size_t reap(std::span<IoCompletion> out) override {
    std::size_t n = 0;
    while (!holds && n < out.size() && !done_.empty()) {
      out[n++] = done_.front();
      done_.pop_front();
      if (reaped) reaped(out[n - 1].token);
    }
    return n;
  }
  void wait(Nanos, Nanos) override {}
  void wake() override {}

  // An errno fails the request; kSwallow makes a write vanish although it completes.
  static constexpr int kSwallow = -1;
  std::function<int(const IoRequest&)> fault;
  std::function<void(std::uint64_t token)> reaped;
  bool holds = false;  // nothing completes
  // What is done only with land_late().
  std::function<bool(const IoRequest&)> slow;
  void land_late() {
    slow = nullptr;
    for (const IoRequest& r : std::exchange(late_, {})) submit(r);
  }

 private:
  std::deque<IoRequest> late_;
  Disk& disk_;
  std::deque<IoCompletion> done_;
};

class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

inline Superblock small_superblock(std::uint32_t block_size = 4096, std::uint32_t sockets = 256) {
  Superblock s;
  s.stg = "test";
  s.uuid[0] = std::byte{7};
  s.geometry = {.block_size = block_size, .hosts = 3, .sockets = sockets, .ring_blocks = 16, .extents = 16};
  s.geometry.total_blocks = bytes_needed(s.geometry) / block_size;
  s.geometry = derive_geometry(s.geometry).value();
  s.timing = timing_profile("fast").value();
  return s;
}

struct Host final : EngineEvents {
  Host(Disk& disk, const Superblock& superblock, Slot slot, std::string host_name, std::uint64_t send_budget_bytes, bool answers_from_afar = false)
      : name(std::move(host_name)), identity{slot, 10 + slot, 100 + slot}, medium(disk), random(slot), timing(superblock.timing) {
    EngineConfig config;
    config.superblock = superblock;
    config.send_budget_bytes = send_budget_bytes;
    config.answers_from_afar = answers_from_afar;
    config.evict_received = true;  // nothing may depend on it
    engine = std::make_unique<Engine>(config, medium, board, random, *this);
  }
  void on_ready(SocketId socket, std::uint32_t bits) override { told[socket] |= bits; }

  std::string name;
  Identity identity;
  MemoryMedium medium;
  MembershipBoard board;
  SeededRandom random;
  Timing timing;
  std::unique_ptr<Engine> engine;
  std::map<SocketId, std::uint32_t> told;
};

// Hosts "alpha" (slot 0) and "beta" (slot 1), members of one group, knowing each other.
class TwoHosts {
 public:
  explicit TwoHosts(std::uint64_t send_budget_bytes = 256u << 20, bool answers_from_afar = false, std::uint32_t block_size = 4096, std::uint32_t sockets = 256)
      : superblock(small_superblock(block_size, sockets)),
        disk(superblock.geometry),
        alpha(disk, superblock, 0, "alpha", send_budget_bytes, answers_from_afar),
        beta(disk, superblock, 1, "beta", send_budget_bytes, answers_from_afar) {
    introduce();
    run(50 * kMillisecond);
  }

  void introduce() {
    for (Host* host : {&alpha, &beta}) post(*host, MemberState::kMember, PeerState::kAlive);
  }
  void post(Host& host, MemberState state, PeerState peer_state, Slot slots_in_use = 2) {
    Host& other = &host == &alpha ? beta : alpha;
    MembershipBoard::View view;
    view.self = {.state = state, .identity = host.identity, .name = host.name, .reason = Reason::kNone, .why = {}, .error_code = 0, .ended = {}};
    view.peers.resize(superblock.geometry.hosts);
    view.peers[other.identity.slot] = {.state = peer_state, .identity = other.identity, .name = other.name, .sees_me = true};
    view.slots_in_use = slots_in_use;
    host.board.post(std::move(view));
    host.board.post_lease(kNever);
  }
  // Moves time on in small steps, stepping both hosts.
  void run(Nanos duration) {
    const Nanos end = now + duration;
    while (now < end) tick();
  }
  template <class Condition>
  bool run_until(Condition condition, Nanos longest = 5 * kSecond) {
    const Nanos end = now + longest;
    while (now < end) {
      if (condition()) return true;
      tick();
    }
    return condition();
  }
  void tick() {
    now += 50 * kMicrosecond;
    alpha.engine->step(now);
    beta.engine->step(now);
  }

  Nanos now = kSecond;
  Superblock superblock;
  Disk disk;
  Host alpha, beta;
};

}  // namespace stp::test
