// A formatted storage in memory, with slot locks that tests set, and a clock that only they move.
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "stp/lease_watch.h"
#include "stp/storage.h"
#include "tests/unit/golden.h"

namespace stp::testing {

class FakeLocks final : public SlotLocks {
 public:
  bool usable() const override { return usable_; }
  bool acquire(Slot) override { return false; }
  void release(Slot) override {}
  State probe(Slot slot) override { return !usable_ ? State::kUnknown : held.contains(slot) ? State::kHeld : State::kFree; }
  std::set<Slot> held;
  bool usable_ = true;
};

// The storage of golden.h, as `stp format` leaves it.
class MemoryStorage final : public Storage {
 public:
  MemoryStorage() : superblock_(golden::superblock()), bytes_(superblock_.geometry.total_bytes()) {
    const Geometry& g = superblock_.geometry;
    encode_superblock(block(0), superblock_, 0);
    encode_superblock(block(g.superblock_copy()), superblock_, g.superblock_copy());
    for (Slot slot = 0; slot < g.hosts; ++slot) put_lease(free_lease(slot, 0, ""));
  }

  Bytes block(std::uint64_t n) { return Bytes(bytes_).subspan(n * superblock_.geometry.block_size, superblock_.geometry.block_size); }
  const Geometry& geometry() const { return superblock_.geometry; }

  static Lease free_lease(Slot slot, std::uint64_t incarnation, std::string name) {
    Lease l;
    l.owner = {.slot = slot, .incarnation = incarnation, .nonce = incarnation};
    l.name = std::move(name);
    return l;
  }
  // An OWNED lease on another kernel, unless told otherwise.
  Lease host(Slot slot, std::string name, std::uint64_t incarnation = 7, bool this_kernel = false) const {
    Lease l = free_lease(slot, incarnation, std::move(name));
    l.owner.nonce = 1000 + slot;
    l.state = LeaseState::kOwned;
    l.pid = 99;
    l.beat = 1;
    l.seen.resize(superblock_.geometry.hosts);
    if (this_kernel) {
      l.boot_id = identity().boot_id;
      l.device = identity().device;
      l.inode = identity().inode;
    }
    return l;
  }
  void put_lease(const Lease& l) { encode_lease(block(geometry().lease(l.owner.slot)), l, superblock_.uuid, geometry()); }
  Lease lease(Slot slot) { return decode_lease(block(geometry().lease(slot)), superblock_.uuid, geometry(), slot).lease; }
  void put_scbs(const ScbBlock& b) { encode_scb_block(block(geometry().scb_block(b.owner.slot, b.index)), b, superblock_.uuid, geometry()); }
  void put_ports(const PortBlock& b) { encode_port_block(block(geometry().port_block(b.owner.slot, b.index)), b, superblock_.uuid, geometry()); }

  const std::string& path() const override { return path_; }
  const Superblock& superblock() const override { return superblock_; }
  bool superblock_is_copy() const override { return false; }
  const StorageFacts& facts() const override { return facts_; }
  StorageIdentity identity() const override { return {.boot_id = golden::uuid(), .device = 5, .inode = 6}; }
  SlotLocks& locks() override { return fake_locks; }
  Result<std::unique_ptr<Medium>> make_medium() override { return fail(ENOSYS, "no medium"); }
  std::string medium_name() const override { return "memory"; }
  Result<void> read(std::uint64_t first, Bytes into) override {
    ++reads;
    const std::uint64_t end = first + into.size() / geometry().block_size;
    if (unreadable >= first && unreadable < end) return fail(EIO, "can not read: Input/output error");
    if (before_read) before_read(first);
    std::memcpy(into.data(), bytes_.data() + first * geometry().block_size, into.size());
    return {};
  }
  Result<void> write(std::uint64_t first, ConstBytes from) override {
    ++writes;
    std::memcpy(bytes_.data() + first * geometry().block_size, from.data(), from.size());
    if (after_write) after_write(first);
    return {};
  }
  void abandon_after_fork() override {}

  FakeLocks fake_locks;
  std::atomic<int> reads = 0;
  int writes = 0;
  std::uint64_t unreadable = UINT64_MAX;              // a block that gives EIO
  std::function<void(std::uint64_t)> before_read, after_write;

 private:
  std::string path_ = "memory";
  Superblock superblock_;
  StorageFacts facts_;
  std::vector<std::byte> bytes_;
};

// Moves by what is slept, and calls on_sleep each time: there hosts beat.
struct ManualClock {
  Nanos now = kSecond;
  Nanos slept = 0;
  std::function<void()> on_sleep;
  WatchClock clock() {
    return {.now = [this] { return now; },
            .sleep = [this](Nanos t) {
              now += t;
              slept += t;
              if (on_sleep) on_sleep();
            }};
  }
};

}  // namespace stp::testing
