#include "hostlib/family_lock.h"

#include <sched.h>
#include <sys/mman.h>

#include <cerrno>
#include <new>

namespace stp::host {
namespace {

constexpr int kTries = 64;

}  // namespace

struct FamilyLock::Pages {
  explicit Pages(std::size_t wanted) : bytes(wanted * sizeof(FamilyLock)) {
    at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  }
  // The locks are not destroyed: another process of the family may use them.
  ~Pages() {
    if (at != MAP_FAILED) (void)::munmap(at, bytes);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void* at;
  std::size_t bytes;
};

FamilyLock::FamilyLock() {
  pthread_mutexattr_t attributes;
  (void)::pthread_mutexattr_init(&attributes);
  (void)::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  (void)::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  (void)::pthread_mutex_init(&mutex_, &attributes);
  (void)::pthread_mutexattr_destroy(&attributes);
}

std::vector<std::shared_ptr<FamilyLock>> FamilyLock::make(std::size_t count) {
  std::vector<std::shared_ptr<FamilyLock>> locks;
  if (count == 0) return locks;
  auto pages = std::make_shared<Pages>(count);
  if (pages->at == MAP_FAILED) return locks;
  locks.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    auto* const lock = new (static_cast<std::byte*>(pages->at) + i * sizeof(FamilyLock)) FamilyLock;
    locks.emplace_back(pages, lock);
  }
  return locks;
}

bool FamilyLock::lock() {
  int code = ::pthread_mutex_trylock(&mutex_);
  for (int tries = 0; code == EBUSY && tries < kTries; ++tries) {
    (void)::sched_yield();
    code = ::pthread_mutex_trylock(&mutex_);
  }
  if (code == EOWNERDEAD) code = ::pthread_mutex_consistent(&mutex_);
  return code == 0;
}

void FamilyLock::unlock() { (void)::pthread_mutex_unlock(&mutex_); }

}  // namespace stp::host
