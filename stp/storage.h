// A data storage system as this process has it open: path, superblock, identity, locks, and the media on it.
//
// All media of one Storage carry their I/O on one open file description, the one that holds the slot locks.
#pragma once

#include <memory>
#include <string>

#include "stp/block_source.h"
#include "stp/error.h"
#include "stp/medium.h"
#include "stp/slot_locks.h"
#include "stp/superblock.h"

namespace stp {

// What a path is, before anything is known of its content.
struct StorageFacts {
  bool block_device = false;
  std::uint64_t size_bytes = 0;
  std::uint32_t logical_block_bytes = 512;   // of a device; of the device under a file where that can be known
  std::uint32_t physical_block_bytes = 512;
  std::string file_system;                   // "ext4", "nfs", "tmpfs", ...; empty for a device
  bool network_file_system = false;          // NFS, SMB, FUSE, cluster file systems, 9p, ...
  bool direct_io = false;                    // O_DIRECT can be opened
  bool hardware = false;                     // as far as sysfs tells: the device is none that this kernel makes up of memory or of cached pages
};
Result<StorageFacts> probe_storage(const std::string& path);

class Storage : public BlockSource {
 public:
  enum class Access { kReadOnly, kReadWrite };

  // Opens `path`, reads and checks the superblock (the copy, when the first is damaged). Refuses, in words: no superblock
  // (names what it holds instead, where that is known), a storage smaller than its geometry, a mapped storage on a block device
  // or network file system, a direct one whose block size does not fit the device.
  static Result<std::shared_ptr<Storage>> open(const std::string& path, Access access);
  ~Storage() override = default;

  virtual bool superblock_is_copy() const = 0;  // the first one was damaged
  virtual const StorageFacts& facts() const = 0;
  virtual StorageIdentity identity() const = 0;
  virtual SlotLocks& locks() = 0;
  // Direct: io_uring, else threads, as STP_IO or the kernel says. Keeps the Storage alive. With STP_FAULTS (fault_plan.h) the
  // medium has faults; read() and write() have none.
  virtual Result<std::unique_ptr<Medium>> make_medium() = 0;
  // The faults that the media made so far have, with their seed; empty: none.
  virtual std::string faults() const { return {}; }
  virtual std::string medium_name() const = 0;  // "direct (io_uring)", "direct (threads)", "mapped"

  // What the locks of this kernel tell.
  Holder holder(Slot slot, const Lease& lease) override;
  // As read().
  virtual Result<void> write(std::uint64_t block, ConstBytes from) = 0;

  // In the child of a fork: lets go of the descriptor, so that the child does not hold the parent's lock. Async-signal-safe.
  virtual void abandon_after_fork() = 0;
};

// Whether locks can tell about the holder of this lease: same kernel, same file or device node.
bool locks_tell(Storage& storage, const Lease& lease);

}  // namespace stp
