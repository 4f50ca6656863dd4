// The simulated storage: the bytes of one data storage system and everything that may go wrong with them.
//
// FAULT MODEL. What a correct program must live with:
//  - A request completes after a random time, independent of all others; requests in flight have no order, not even to one block.
//  - A write lands in parts, in any order, at any time between its submit and its completion; a part is a run of blocks, or (with
//    sector_tears) some of the eight sectors of a block. The bytes are taken from the submitter's memory: memory that changes
//    while a request is in flight is a failed check, but for UnrulyMemory.
//  - A read takes its blocks at two random moments before its completion. Until then its buffer holds rubbish.
//  - A process dies (kProcess): its kernel goes on writing what was submitted, completely, possibly late. A machine dies (kMachine): each
//    part that did not land yet is lost, lands as if nothing had happened, or lands late: by up to late_max from its submit.
//  - A completed write may land a second time, whole or one block of it, up to requests.undo.longest after its submit, over whatever was
//    written there since (a multipath retry). That and late_max within the timing's Q is what the timings promise to live with;
//    beyond it only safety may be asked for.
//  - What STP_FAULTS can ask for (stp/fault_plan.h), drawn by the same code: requests that take longer or fail with EIO, writes that land in
//    part, not at all, elsewhere or once more, flipped bits. Here a part of a failed write may also land later.
//  - Stalls: for a while nothing of a machine, or of all, lands or completes.
//  - A misdirected write lands near its place, or on any block that was ever written; the right place stays old.
//  - A machine sees an old copy of the disk for a while; its writes go to the disk (stale) or to that copy (another disk).
// What it does not do: alter a block so that its checksum still matches (that is the work of SimRogue), or mix the
// bytes of one sector.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tests/sim/sim_world.h"
#include "stp/request_fate.h"

namespace stp::sim {

class SimMedium;
using ProcessId = std::uint32_t;
using MachineId = std::uint32_t;

struct StorageFaults {
  Nanos fastest = 50 * kMicrosecond;  // requests take between these two, short ones as often as long ones
  Nanos slowest = 5 * kMillisecond;
  FaultPlan requests{};               // what befalls some of them beside that
  Nanos bulk_delay_max = 0;           // the longest delay of more than one block, where it is longer than requests.delay.longest
  bool sector_tears = false;
  double lost_chance = 0.5;           // of a part in flight when its machine dies
  double late_chance = 0.25;
  Nanos late_max = 0;
};

// The memory, kept from seed to seed: only what was written is wiped.
class StorageMemory {
 public:
  void reset(std::uint32_t block_size, std::uint64_t total_blocks);
  std::byte* at(std::uint64_t block) { return bytes_.data() + block * block_size_; }
  std::byte* touch(std::uint64_t block);
  const std::vector<std::uint64_t>& written() const { return dirty_; }

 private:
  std::uint32_t block_size_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<bool> is_dirty_;
  std::vector<std::uint64_t> dirty_;
};

class StorageWatcher {
 public:
  virtual ~StorageWatcher() = default;
  virtual void write_submitted(ProcessId process, std::uint64_t block, ConstBytes data) = 0;
  // The last write of a process that died has landed or is lost for good.
  virtual void process_quiet(ProcessId process) = 0;
  // Something is about to befall a block (torn, lost, misdirected, flipped, undone): who lives with it is excused.
  virtual void block_harmed(std::uint64_t block) = 0;
};

// Memory whose owner may change it while it is being written: what lands is what lies there then. All others that do that are in the wrong.
// Of one world, which is one thread's.
class UnrulyMemory {
 public:
  explicit UnrulyMemory(ConstBytes memory);
  ~UnrulyMemory();
  UnrulyMemory(const UnrulyMemory&) = delete;
  UnrulyMemory& operator=(const UnrulyMemory&) = delete;
  static bool holds(const std::byte* at);

 private:
  const std::byte* begin_;
};

class SimStorage {
 public:
  enum class Death { kProcess, kMachine };
  enum class OtherView { kStale, kOtherDisk };
  static constexpr MachineId kEverybody = 0xffffffff;

  SimStorage(SimWorld& world, StorageMemory& memory, std::uint32_t block_size, std::uint64_t total_blocks);

  void set_watcher(StorageWatcher* watcher) { watcher_ = watcher; }
  void set_faults(const StorageFaults& faults) { faults_ = faults; }
  const StorageFaults& faults() const { return faults_; }

  void submit(SimMedium& medium, const IoRequest& request);
  // The memory of this medium's requests is gone from now on; nothing completes any more.
  void orphan(SimMedium& medium, Death death);
  // What becomes of the writes that the next machine to die has in flight, in the order of their submission; beyond the list they land. An
  // empty list: chance decides about each part.
  enum class Landing : std::uint8_t { kLost, kTorn, kWhole };
  void choose_landings(std::vector<Landing> landings);
  std::size_t writes_in_flight(ProcessId process) const;
  bool has_writes_under_way(ProcessId process) const { return orphans_.contains(process); }

  void stall(MachineId machine, Nanos until);
  void end_stalls() {
    stalls_.clear();
    stall_all_ = 0;
  }
  void see_other_view(MachineId machine, OtherView kind);
  void see_disk_again(MachineId machine) { views_.erase(machine); }

  // At once and without faults: for the format, for rogues and for looking.
  ConstBytes look(std::uint64_t block) { return {memory_.at(block), block_size_}; }
  void put(std::uint64_t block, ConstBytes data);
  std::uint32_t block_size() const { return block_size_; }
  std::uint64_t total_blocks() const { return total_blocks_; }
  const StorageMemory& memory() const { return memory_; }

  struct Counters {
    std::uint64_t reads = 0, writes = 0, undone = 0, late = 0, lost = 0, errors = 0, flips = 0, misdirected = 0, torn = 0;
  };
  const Counters& counters() const { return counters_; }

 private:
  struct Io;
  struct Part;
  struct View {
    OtherView kind;
    std::unordered_map<std::uint64_t, std::vector<std::byte>> old;
  };
  using IoPtr = std::shared_ptr<Io>;

  void check_request(const SimMedium& medium, const IoRequest& request);
  RequestFate fate_of(const IoRequest& request);
  void start_write(const IoPtr& io);
  void misdirect(Io& io);
  void cut(Io& io);
  void start_read(const IoPtr& io);
  void land(const IoPtr& io, std::size_t part);
  void land_now(Io& io, Part& part);
  void land_block(MachineId machine, std::uint64_t block, const std::byte* data, std::uint8_t sectors);
  std::uint8_t landing(const Io& io, std::uint32_t block, std::uint8_t sectors) const;
  void harm(std::uint64_t block, std::uint32_t blocks);
  void keep_for_views(std::uint64_t block);
  void take(Io& io, bool even);
  void complete(const IoPtr& io);
  void maybe_undo(const IoPtr& io);
  void orphan_part(const IoPtr& io, std::size_t part, Death death);
  void orphan_as_chosen(const IoPtr& io, Landing landing);
  void lose_part(const IoPtr& io, Part& part);
  void part_over(Io& io);
  Nanos stalled_until(MachineId machine) const;

  SimWorld& world_;
  StorageMemory& memory_;
  std::uint32_t block_size_;
  std::uint64_t total_blocks_;
  SimRandom random_;
  StorageFaults faults_;
  StorageWatcher* watcher_ = nullptr;
  Counters counters_;
  std::vector<IoPtr> in_flight_;
  std::map<ProcessId, std::uint32_t> orphans_;  // parts on their way, by dead process
  std::vector<Landing> landings_;
  std::size_t next_landing_ = 0;
  std::map<MachineId, View> views_;
  std::map<MachineId, Nanos> stalls_;
  Nanos stall_all_ = 0;
};

}  // namespace stp::sim
