// Hosts with nothing but their membership, on one fake disk, in simulated time: for tests of joining, beating and judging.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "stp/lease.h"
#include "stp/membership.h"
#include "tests/unit/fake_medium.h"

namespace stp {

class SeededRandom : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() override {  // splitmix64
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

inline Lease make_lease(const Identity& owner, LeaseState state = LeaseState::kFree, const std::string& name = "") {
  Lease lease;
  lease.owner = owner;
  lease.state = state;
  lease.name = name;
  return lease;
}

// The locks of one kernel.
using FakeLockTable = std::map<Slot, const void*>;

class FakeLocks : public SlotLocks {
 public:
  FakeLocks(FakeLockTable& table, bool usable) : table_(table), usable_(usable) {}
  ~FakeLocks() override {
    std::erase_if(table_, [this](const auto& entry) { return entry.second == this; });
  }
  bool usable() const override { return usable_; }
  bool acquire(Slot slot) override { return usable_ && table_.try_emplace(slot, this).first->second == this; }
  void release(Slot slot) override {
    if (const auto it = table_.find(slot); it != table_.end() && it->second == this) table_.erase(it);
  }
  State probe(Slot slot) override {
    if (!usable_) return State::kUnknown;
    const auto it = table_.find(slot);
    return it != table_.end() && it->second != this ? State::kHeld : State::kFree;
  }

 private:
  FakeLockTable& table_;
  bool usable_;
};

struct FakeHost {
  FakeHost(FakeDisk& disk, MembershipConfig c, FakeLockTable& table, bool locks_usable, std::uint64_t seed)
      : config(std::move(c)), medium(disk), locks(table, locks_usable), random(seed), membership(config, medium, locks, random, board) {}

  MembershipConfig config;
  unsigned machine = 0;
  FakeMedium medium;
  FakeLocks locks;
  SeededRandom random;
  MembershipBoard board;
  Membership membership;
  Nanos due = 0;
  bool frozen = false;        // neither steps nor sees completions
  bool engine_stuck = false;  // makes no progress
  bool quiesces = true;       // its engine lets go at once when fenced or leaving
  std::set<std::uint64_t> incarnations;
  std::vector<MemberState> states;  // each change

  Self self() const { return board.view().self; }
  MemberState state() const { return self().state; }
  Peer peer(Slot slot) const {
    const auto view = board.view();
    return slot < view.peers.size() ? view.peers[slot] : Peer{};
  }
};

class World {
 public:
  explicit World(std::uint32_t slots = 4, const char* profile = "fast") : superblock(make_superblock(slots, profile)), disk(make_disk()) {
    for (Slot slot = 0; slot < slots; ++slot) put(make_lease({slot, 0, 0}));
  }

  // machine: which kernel it runs on; locks of one machine meet.
  FakeHost& add(const std::string& name, unsigned machine, bool locks_usable = true) {
    MembershipConfig c{
        .superblock = superblock, .host = name, .identity = {.boot_id = {std::byte(machine)}, .device = 1, .inode = 2}, .pid = 7};
    return add(std::move(c), machine, locks_usable);
  }
  FakeHost& add(MembershipConfig config, unsigned machine, bool locks_usable) {
    hosts.push_back(std::make_unique<FakeHost>(disk, std::move(config), tables[machine], locks_usable, seed++));
    hosts.back()->due = disk.now();
    hosts.back()->machine = machine;
    return *hosts.back();
  }
  // Dies without a word; what it submitted still lands, and its locks come free after that.
  void kill(FakeHost& host) {
    for (auto& [slot, owner] : tables[host.machine]) {
      if (owner != &host.locks || host.medium.last_landing <= disk.now()) continue;
      owner = &disk;
      disk.at(host.medium.last_landing, [&table = tables[host.machine], at = slot] { table.erase(at); });
    }
    std::erase_if(hosts, [&host](const auto& h) { return h.get() == &host; });
  }

  void run_until(Nanos end) {
    while (true) {
      Nanos next = disk.next_event();
      for (const auto& h : hosts)
        if (!h->frozen) next = std::min(next, h->medium.completions() > 0 ? disk.now() : h->due);
      next = std::max(next, disk.now());
      if (next > end) break;
      disk.advance(next);
      for (const auto& h : hosts)
        if (!h->frozen && (h->medium.completions() > 0 || h->due <= disk.now())) step(*h);
    }
    disk.advance(end);
  }
  void run_for(Nanos time) { run_until(disk.now() + time); }
  // True when `done` held within `limit`; looked at after every millisecond.
  template <class Done>
  bool run_until(Done done, Nanos limit) {
    for (const Nanos end = disk.now() + limit; disk.now() < end; run_for(kMillisecond))
      if (done()) return true;
    return done();
  }
  bool joins(FakeHost& host, Nanos limit) {
    return run_until([&host] { return host.state() == MemberState::kMember; }, limit);
  }

  Lease lease(Slot slot) {
    return decode_lease(disk.block(superblock.geometry.lease(slot)), superblock.uuid, superblock.geometry, slot).lease;
  }
  void put(const Lease& lease) {
    encode_lease(disk.block(superblock.geometry.lease(lease.owner.slot)), lease, superblock.uuid, superblock.geometry);
  }
  void damage(Slot slot) { disk.block(superblock.geometry.lease(slot))[200] ^= std::byte{0xff}; }

  Nanos dead() const { return superblock.timing.dead_ms * kMillisecond; }
  Nanos join() const { return superblock.timing.join_ms * kMillisecond; }
  Nanos fence() const { return superblock.timing.fence_ms * kMillisecond; }
  Nanos detection() const { return superblock.timing.detection_ms() * kMillisecond; }

  Superblock superblock;
  FakeDisk disk;
  std::map<unsigned, FakeLockTable> tables;
  std::vector<std::unique_ptr<FakeHost>> hosts;
  std::uint64_t seed = 1;
  std::uint64_t steps = 0;

 private:
  static Superblock make_superblock(std::uint32_t slots, const char* profile) {
    Superblock sb;
    sb.uuid[0] = std::byte{0x5a};
    sb.stg = "test";
    sb.timing = *timing_profile(profile);
    Geometry g{.block_size = 4096, .hosts = slots, .sockets = 16, .ring_blocks = 16, .extents = 4};
    g.total_blocks = bytes_needed(g) / g.block_size + 1;
    sb.geometry = *derive_geometry(g);
    return sb;
  }
  FakeDisk make_disk() const { return {superblock.geometry.block_size, superblock.geometry.gate_first}; }

  void step(FakeHost& h) {
    ++steps;
    if (!h.engine_stuck) h.board.note_progress();
    h.due = h.membership.step(disk.now());
    const Self self = h.self();
    if (h.states.empty() || h.states.back() != self.state) h.states.push_back(self.state);
    if (self.state == MemberState::kMember) h.incarnations.insert(self.identity.incarnation);
    if (h.quiesces && (self.state == MemberState::kFenced || self.state == MemberState::kLeaving))
      h.board.note_quiesced(self.identity.incarnation);
  }
};

}  // namespace stp
