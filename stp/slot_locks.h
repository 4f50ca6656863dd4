// Accelerator between processes of one kernel: an open-file-description lock a slot, held on the very
// description that carries the writes. When it is free, the process that held it is gone and every write that
// it submitted has landed. Saves waiting; safety never needs it. A busy lock proves nothing.
#pragma once

#include <cstdint>

#include "stp/identity.h"

namespace stp {

class SlotLocks {
 public:
  enum class State : std::uint8_t { kFree, kHeld, kUnknown };
  virtual ~SlotLocks() = default;
  // False on network and cluster file systems, FUSE, and wherever locks fail: then all else answers kUnknown / false.
  virtual bool usable() const = 0;
  // Takes the slot's lock for this process; false when another description holds it, or when not usable.
  virtual bool acquire(Slot slot) = 0;
  virtual void release(Slot slot) = 0;
  // Whether some other description holds the slot's lock.
  virtual State probe(Slot slot) = 0;
};

// What tells two processes that their locks meet: same kernel (boot id), same device and inode.
struct StorageIdentity {
  Uuid boot_id{};
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  bool operator==(const StorageIdentity&) const = default;
};

}  // namespace stp
