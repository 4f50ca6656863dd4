#include "hostlib/fork_guard.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <new>

namespace stp::host {
namespace {

constexpr std::size_t kPageBytes = 4096;

std::atomic<std::atomic<unsigned>*> mark{nullptr};  // 1 in the process that joined, 0 in its children
std::atomic<bool> child_told{false};
void (*tell_child)() = nullptr;

void note_child() {
  if (!child_told.exchange(true) && tell_child != nullptr) tell_child();
}

void after_fork_in_child() {
  std::atomic<unsigned>* page = mark.load(std::memory_order_relaxed);
  if (page == nullptr) return;
  page->store(0, std::memory_order_relaxed);
  note_child();
}

}  // namespace

void arm_fork_guard(void (*in_child)()) {
  if (mark.load(std::memory_order_acquire) != nullptr) return;
  void* memory = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  (void)::madvise(memory, kPageBytes, MADV_WIPEONFORK);  // refused before Linux 4.14: the handler below does it then
  auto* page = new (memory) std::atomic<unsigned>(1);
  tell_child = in_child;
  mark.store(page, std::memory_order_release);
  (void)::pthread_atfork(nullptr, nullptr, after_fork_in_child);
}

bool forked() {
  std::atomic<unsigned>* page = mark.load(std::memory_order_acquire);
  if (page == nullptr || page->load(std::memory_order_relaxed) != 0) return false;
  note_child();
  return true;
}

}  // namespace stp::host
