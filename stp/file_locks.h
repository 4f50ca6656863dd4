// Slot locks as open-file-description locks (fcntl F_OFD_SETLK): one byte a slot, far behind any data, on the very
// description that carries the writes. The kernel lets go of them when that description has no user left, and a request
// in flight is a user: hence "free" means that everything the holder submitted has landed.
#pragma once

#include <memory>

#include "stp/slot_locks.h"
#include "stp/storage_file.h"

namespace stp {

class FileLocks final : public SlotLocks {
 public:
  // `local`: all users of the file are processes of this kernel's file system (not NFS, SMB, FUSE, cluster file systems).
  FileLocks(const StorageFile& file, bool local);
  bool usable() const override { return usable_; }
  bool acquire(Slot slot) override;
  void release(Slot slot) override;
  State probe(Slot slot) override;

 private:
  const StorageFile& file_;
  bool usable_;
};

}  // namespace stp
