#include "stp/mapping.h"

#include <fmt/format.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace stp {
namespace {

// What the calling thread is copying just now. Initial-exec: the handler must not allocate.
struct Copying {
  sigjmp_buf escape;
  sigset_t mask;  // of signals, at the fault
  const std::byte* begin;
  const std::byte* end;
};
[[gnu::tls_model("initial-exec")]] thread_local Copying* volatile current_copy = nullptr;

struct sigaction previous_handler {};

void on_sigbus(int signal, siginfo_t* info, void* context) {
  Copying* copying = current_copy;
  const auto* at = static_cast<const std::byte*>(info->si_addr);
  if (copying != nullptr && info->si_code > 0 && at >= copying->begin && at < copying->end) {
    copying->mask = static_cast<const ucontext_t*>(context)->uc_sigmask;
    siglongjmp(copying->escape, 1);
  }
  if ((previous_handler.sa_flags & SA_SIGINFO) != 0 && previous_handler.sa_sigaction != nullptr) {
    previous_handler.sa_sigaction(signal, info, context);
  } else if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN) {
    previous_handler.sa_handler(signal);
  } else if (previous_handler.sa_handler == SIG_DFL || info->si_code > 0) {
    // Not ours: die as the program would have without us. A fault comes again by itself; a sent signal is sent again.
    struct sigaction plain {};
    plain.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &plain, nullptr);
    if (info->si_code <= 0) ::raise(SIGBUS);
  }
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction ours {};
    ours.sa_sigaction = on_sigbus;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    ::sigaction(SIGBUS, nullptr, &previous_handler);
    ::sigaction(SIGBUS, &ours, nullptr);
  });
}

// The order between copies: release fence, relaxed stores; relaxed loads, acquire fence. ThreadSanitizer knows no fences (GCC
// warns), and none is missed: relaxed accesses do not race, and nothing else in the process is published through the mapping.
// Accesses with an order are no way out: a SIGBUS inside of one would leave ThreadSanitizer's own locks taken.
#if defined(__SANITIZE_THREAD__)
#define STP_WITHOUT_FENCES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STP_WITHOUT_FENCES 1
#endif
#endif

#ifdef STP_WITHOUT_FENCES
void release_fence() {}
void acquire_fence() {}
#else
void release_fence() { std::atomic_thread_fence(std::memory_order_release); }
void acquire_fence() { std::atomic_thread_fence(std::memory_order_acquire); }
#endif

using Word = std::uint64_t;

void load_words(std::byte* into, std::byte* from, std::size_t size) {
  for (std::size_t i = 0; i < size; i += sizeof(Word)) {
    const Word word = std::atomic_ref<Word>(*reinterpret_cast<Word*>(from + i)).load(std::memory_order_relaxed);
    std::memcpy(into + i, &word, sizeof word);
  }
}

void store_words(std::byte* into, const std::byte* from, std::size_t size) {
  for (std::size_t i = 0; i < size; i += sizeof(Word)) {
    Word word;
    std::memcpy(&word, from + i, sizeof word);
    std::atomic_ref<Word>(*reinterpret_cast<Word*>(into + i)).store(word, std::memory_order_relaxed);
  }
}

enum class Direction : std::uint8_t { kIn, kOut };

// Holds nothing that would need a destructor: siglongjmp runs none.
[[gnu::noinline]] bool guarded_copy(Direction direction, std::byte* shared, std::byte* own, const std::byte* own_const, std::size_t size) {
  Copying copying;
  copying.begin = shared;
  copying.end = shared + size;
  // Without the signal mask, which would cost every copy a system call; the handler hands it over.
  if (sigsetjmp(copying.escape, 0) != 0) {
    current_copy = nullptr;
    pthread_sigmask(SIG_SETMASK, &copying.mask, nullptr);
    return false;
  }
  current_copy = &copying;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (direction == Direction::kIn) {
    release_fence();
    store_words(shared, own_const, size);
  } else {
    load_words(own, shared, size);
    acquire_fence();
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  current_copy = nullptr;
  return true;
}

}  // namespace

Result<std::unique_ptr<Mapping>> Mapping::create(int fd, std::uint64_t size, bool writable) {
  install_handler();
  void* base = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return fail(errno, fmt::format("can not map {} bytes: {}", size, std::strerror(errno)));
  // A mapping keeps the open file description, and with it the slot locks, alive: a child must not have one.
  ::madvise(base, size, MADV_DONTFORK);
  return std::unique_ptr<Mapping>(new Mapping(static_cast<std::byte*>(base), size, writable));
}

Mapping::Mapping(std::byte* base, std::uint64_t size, bool writable) : base_(base), size_(size), writable_(writable), pid_(::getpid()) {}

Mapping::~Mapping() {
  // In the child of a fork there may be something else at this place.
  if (::getpid() == pid_) ::munmap(base_, size_);
}

bool Mapping::copy_out(std::uint64_t offset, Bytes into) const {
  return guarded_copy(Direction::kOut, base_ + offset, into.data(), nullptr, into.size());
}

bool Mapping::copy_in(std::uint64_t offset, ConstBytes from) const {
  return guarded_copy(Direction::kIn, base_ + offset, nullptr, from.data(), from.size());
}

}  // namespace stp
