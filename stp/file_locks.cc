#include "stp/file_locks.h"

#include <fcntl.h>
#include <unistd.h>

namespace stp {
namespace {

struct flock lock_of(Slot slot, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = (off_t{1} << 62) + static_cast<off_t>(slot);
  lock.l_len = 1;
  return lock;
}

}  // namespace

FileLocks::FileLocks(const StorageFile& file, bool local) : file_(file), usable_(local) {
  if (usable_) usable_ = probe(0) != State::kUnknown;
}

bool FileLocks::acquire(Slot slot) {
  if (!usable_) return false;
  struct flock lock = lock_of(slot, F_WRLCK);
  return ::fcntl(file_.fd(), F_OFD_SETLK, &lock) == 0;
}

void FileLocks::release(Slot slot) {
  if (!usable_) return;
  struct flock lock = lock_of(slot, F_UNLCK);
  ::fcntl(file_.fd(), F_OFD_SETLK, &lock);
}

SlotLocks::State FileLocks::probe(Slot slot) {
  if (!usable_) return State::kUnknown;
  struct flock lock = lock_of(slot, F_WRLCK);
  if (::fcntl(file_.fd(), F_OFD_GETLK, &lock) != 0) return State::kUnknown;
  return lock.l_type == F_UNLCK ? State::kFree : State::kHeld;
}

}  // namespace stp
