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
ForkHandlers told{};
std::atomic<unsigned> generation{0};

void note_child() {
  if (child_told.exchange(true)) return;
  generation.fetch_add(1);
  if (told.in_child != nullptr) told.in_child();
}

void after_fork_in_child() {
  std::atomic<unsigned>* page = mark.load(std::memory_order_relaxed);
  if (page == nullptr) return;
  page->store(0, std::memory_order_relaxed);
  note_child();
}

}  // namespace

void arm_fork_guard(const ForkHandlers& handlers) {
  if (mark.load(std::memory_order_acquire) != nullptr) return;
  void* memory = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  (void)::madvise(memory, kPageBytes, MADV_WIPEONFORK);  // refused before Linux 4.14: the handler below does it then
  auto* page = new (memory) std::atomic<unsigned>(1);
  told = handlers;
  mark.store(page, std::memory_order_release);
  (void)::pthread_atfork([] { told.before(); }, [] { told.in_parent(); }, after_fork_in_child);
}

bool forked() {
  std::atomic<unsigned>* page = mark.load(std::memory_order_acquire);
  if (page == nullptr || page->load(std::memory_order_relaxed) != 0) return false;
  note_child();
  return true;
}

void rearm_fork_guard() {
  child_told.store(false);
  mark.load(std::memory_order_acquire)->store(1, std::memory_order_release);
}

unsigned fork_generation() { return generation.load(); }

}  // namespace stp::host
