// A lock that a process shares with the children it forks, for the two of them to send and receive on one socket in turn. It lies in
// memory that only the family has: what a stranger can write (a shadow) would be no place for it.
//
// Held while bytes are copied, never across a wait. A holder that dies leaves it to the next: what it was about to publish was
// either published or not.
#pragma once

#include <pthread.h>

#include <memory>
#include <vector>

namespace stp::host {

class FamilyLock {
 public:
  FamilyLock(const FamilyLock&) = delete;
  FamilyLock& operator=(const FamilyLock&) = delete;

  // So many of them, in pages that go when the last is let go. Empty when there is no memory.
  static std::vector<std::shared_ptr<FamilyLock>> make(std::size_t count);

  // False when it is not to be had for so long that its holder must have been stopped, or not been let run, in the middle: come again
  // after a moment. Never long: the caller holds a lock of its own.
  bool lock();
  void unlock();

 private:
  FamilyLock();
  ~FamilyLock() = default;
  struct Pages;
  pthread_mutex_t mutex_;
};

// Locks it if there is one.
class FamilyGuard {
 public:
  explicit FamilyGuard(FamilyLock* lock) : lock_(lock), held_(lock == nullptr || lock->lock()) {}
  ~FamilyGuard() {
    if (held_ && lock_ != nullptr) lock_->unlock();
  }
  FamilyGuard(const FamilyGuard&) = delete;
  FamilyGuard& operator=(const FamilyGuard&) = delete;
  explicit operator bool() const { return held_; }

 private:
  FamilyLock* lock_;
  bool held_;
};

}  // namespace stp::host
