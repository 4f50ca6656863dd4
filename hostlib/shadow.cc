#include "hostlib/shadow.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "stp/copy.h"
#include "stp/cpu_cache.h"
#include "stp/medium.h"

namespace stp::host {
namespace {

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kSmallBytes = 512;
// Who moves so much at once, and has moved so much before, will go on for a while: a huge page costs about half a millisecond.
constexpr std::size_t kBulkBytes = 16 * 1024;
constexpr std::uint64_t kBulkSoFar = 1024 * 1024;
constexpr std::size_t kAheadBytes = 512;  // more gets lines that are still to be read
constexpr std::uint64_t kMostTouchedAhead = 128 * 1024;
constexpr std::uint32_t kPage = 4096;
static_assert(sizeof(ShadowHeader) <= kPage);
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

#if defined(__SANITIZE_THREAD__)
#define STP_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STP_THREAD_SANITIZER
#endif
#endif

// Another place for each: other pages where there are several, other lines of the page.
std::uint32_t next_header_place(std::size_t room) {
  static std::atomic<std::uint32_t> made{0};
  constexpr std::uint32_t kLinesApart = (kPage - sizeof(ShadowHeader)) / alignof(ShadowHeader) + 1;
  const std::uint32_t number = made.fetch_add(1, std::memory_order_relaxed);
  const auto pages = static_cast<std::uint32_t>(room / kPage);
  return number % pages * kPage + number % kLinesApart * static_cast<std::uint32_t>(alignof(ShadowHeader));
}

// A store before it is seen before a load after it is made.
void publish_before_look([[maybe_unused]] ShadowSide& mine) {
#ifdef STP_THREAD_SANITIZER
  (void)mine.waiting.fetch_or(0, std::memory_order_seq_cst);  // it does not know fences
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

}  // namespace

std::expected<std::shared_ptr<ShadowMemory>, int> ShadowMemory::create(std::uint32_t ring_bytes) {
  std::shared_ptr<ShadowMemory> memory(new ShadowMemory);
  memory->ring_bytes_ = std::bit_ceil(std::clamp(ring_bytes, kSmallestRing, kLargestRing));
  memory->fd_ = ::memfd_create("stp-shadow", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory->fd_ < 0) return std::unexpected(errno);
  const std::size_t bytes = whole_size(memory->ring_bytes_);
  if (::ftruncate(memory->fd_, static_cast<off_t>(bytes)) != 0 || ::fcntl(memory->fd_, F_ADD_SEALS, kSeals) != 0 ||
      !memory->map_file(memory->fd_, bytes, next_header_place(rings_at(memory->ring_bytes_))))
    return std::unexpected(errno);
  std::memcpy(memory->header_->magic, ShadowHeader::kMagic, sizeof ShadowHeader::kMagic);
  memory->header_->version = ShadowHeader::kVersion;
  memory->header_->ring_bytes = memory->ring_bytes_;
  return memory;
}

std::expected<std::shared_ptr<ShadowMemory>, int> ShadowMemory::map(int fd, std::uint64_t header_at) {
  struct stat facts = {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals || ::fstat(fd, &facts) != 0) return std::unexpected(EPROTO);
  if (facts.st_size < static_cast<off_t>(whole_size(kSmallestRing)) || facts.st_size > static_cast<off_t>(whole_size(kLargestRing)))
    return std::unexpected(EPROTO);
  const bool within = header_at % alignof(ShadowHeader) == 0 && header_at <= static_cast<std::uint64_t>(facts.st_size) - sizeof(ShadowHeader);
  if (!within) return std::unexpected(EPROTO);
  std::shared_ptr<ShadowMemory> memory(new ShadowMemory);
  if (!memory->map_file(fd, static_cast<std::size_t>(facts.st_size), header_at)) return std::unexpected(errno);
  const std::uint32_t ring_bytes = memory->header_->ring_bytes;
  const bool good = std::memcmp(memory->header_->magic, ShadowHeader::kMagic, sizeof ShadowHeader::kMagic) == 0 &&
                    memory->header_->version == ShadowHeader::kVersion && std::has_single_bit(ring_bytes) &&
                    whole_size(ring_bytes) == memory->bytes_ && header_at + sizeof(ShadowHeader) <= rings_at(ring_bytes);
  if (!good) return std::unexpected(EPROTO);
  memory->ring_bytes_ = ring_bytes;
  return memory;
}

bool ShadowMemory::map_file(int fd, std::size_t bytes, std::uint64_t header_at) {
  // A huge page of the file is one of this process too only where both begin at a multiple of it.
  const std::size_t spare = bytes >= whole_size(kHugePage / 2) ? kHugePage : 0;
  void* const reserved = ::mmap(nullptr, bytes + spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return false;
  auto* const first = static_cast<std::byte*>(reserved);
  const std::size_t skip = spare == 0 ? 0 : (kHugePage - reinterpret_cast<std::uintptr_t>(first) % kHugePage) % kHugePage;
  if (skip > 0) (void)::munmap(first, skip);
  if (skip < spare) (void)::munmap(first + skip + bytes, spare - skip);
  if (::mmap(first + skip, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    (void)::munmap(first + skip, bytes);
    return false;
  }
  base_ = first + skip;
  bytes_ = bytes;
  header_ = reinterpret_cast<ShadowHeader*>(base_ + header_at);
  return true;
}

ShadowMemory::~ShadowMemory() {
  if (base_ != nullptr) (void)::munmap(base_, bytes_);
  if (fd_ >= 0) (void)::close(fd_);
}

std::uint64_t ShadowMemory::touched_bytes() const {
  struct stat facts = {};
  return fd_ >= 0 && ::fstat(fd_, &facts) == 0 ? static_cast<std::uint64_t>(facts.st_blocks) * 512 : 0;
}

bool ShadowMemory::make_huge(int ring_number) {
  if (std::exchange(tried_.at(static_cast<std::size_t>(ring_number)), true) || !large() || fd_ >= 0) return false;
  const std::size_t first = static_cast<std::size_t>(ring_number) * ring_bytes_ / kHugePage;
  const std::size_t end = (static_cast<std::size_t>(ring_number + 1) * ring_bytes_ + kHugePage - 1) / kHugePage;
  for (std::size_t page = first; page < end; ++page) {
    std::byte* const at = ring(0) + page * kHugePage;
    (void)*static_cast<volatile std::byte*>(at);  // of nothing the kernel makes no huge page
    if (::madvise(at, kHugePage, MADV_COLLAPSE) != 0) return false;
  }
  return true;
}

// -- Sending -------------------------------------------------------------------------------------------------------

std::uint64_t ShadowEnd::unread() const {
  return mine().tail.load(std::memory_order_relaxed) - theirs().head.load(std::memory_order_acquire);
}

std::size_t ShadowEnd::room() const {
  seen_head_ = theirs().head.load(std::memory_order_acquire);
  const std::uint64_t held = mine().tail.load(std::memory_order_relaxed) - seen_head_;
  return held <= ring_bytes() ? static_cast<std::size_t>(ring_bytes() - held) : 0;
}

// What was seen before will do where it is enough: the other side's counter lies in its processor's cache.
std::size_t ShadowEnd::room_for(std::size_t wanted) const {
  const std::uint64_t held = mine().tail.load(std::memory_order_relaxed) - seen_head_;
  if (held <= ring_bytes() && ring_bytes() - held >= wanted) return wanted;
  return std::min(room(), wanted);
}

// On the first lap each page is a page fault here and one in the other process. Once a socket has used some, it gets as many more at once as
// it has; the other process finds them around the first that it touches.
void ShadowEnd::touch_ahead(std::uint64_t tail) const {
  touch_at_ = ~std::uint64_t{0};
  if (tail >= ring_bytes()) return;
  const std::uint64_t begin = tail / kPage * kPage;
  const std::uint64_t end = std::min<std::uint64_t>(begin + std::min(begin, kMostTouchedAhead), ring_bytes());
  if (::madvise(memory_->ring(side_) + begin, end - begin, MADV_POPULATE_WRITE) == 0 && end < ring_bytes()) touch_at_ = end;
}

Bytes ShadowEnd::next_room() const {
  const std::size_t free = room();
  const std::uint64_t tail = mine().tail.load(std::memory_order_relaxed);
  if (tail >= touch_at_) touch_ahead(tail);
  const std::size_t at = static_cast<std::size_t>(tail) & (ring_bytes() - 1);
  return {memory_->ring(side_) + at, std::min(free, ring_bytes() - at)};
}

std::byte* ShadowEnd::place(std::uint64_t ahead, std::size_t bytes) const {
  const std::size_t free = room();
  if (ahead > free || bytes > free - ahead) return nullptr;
  const std::size_t at = static_cast<std::size_t>(mine().tail.load(std::memory_order_relaxed) + ahead) & (ring_bytes() - 1);
  if (at % kBufferAlignment != 0 || bytes > ring_bytes() - at) return nullptr;
  const bool huge = memory_->large() && (theirs().huge.load(std::memory_order_relaxed) & ShadowSide::kOfWhatIReceive) != 0;
  return huge ? memory_->ring(side_) + at : nullptr;
}

void ShadowEnd::note_bulk(std::size_t bytes, std::uint64_t so_far, std::uint32_t which) const {
  if (bytes < kBulkBytes || so_far < kBulkSoFar) return;
  if (memory_->make_huge(which == ShadowSide::kOfWhatISend ? side_ : 1 - side_)) mine().huge.fetch_or(which, std::memory_order_relaxed);
}

void ShadowEnd::publish(std::size_t bytes) {
  const std::uint64_t tail = mine().tail.load(std::memory_order_relaxed);
  note_bulk(bytes, tail, ShadowSide::kOfWhatISend);
  mine().tail.store(tail + bytes, std::memory_order_release);
}

std::size_t ShadowEnd::write(ConstBytes data) {
  const std::size_t count = room_for(data.size());
  if (count == 0) return 0;
  const std::uint64_t tail = mine().tail.load(std::memory_order_relaxed);
  if (tail >= touch_at_) touch_ahead(tail);
  const std::size_t at = static_cast<std::size_t>(tail) & (ring_bytes() - 1);
  const std::size_t first = std::min(count, ring_bytes() - at);
  std::byte* const ring = memory_->ring(side_);
  // The receiver's processor has these lines since it read them a lap ago. A message at a time would wait for each.
  if (count <= kSmallBytes)
    for (std::size_t i = 0; i < count; i += kLineBytes) prefetch_for_writing(ring + ((at + kAheadBytes + i) & (ring_bytes() - 1)));
  copy_bytes(ring + at, data.first(first));
  if (first < count) copy_bytes(ring, data.subspan(first, count - first));
  publish(count);
  return count;
}

// -- Receiving -----------------------------------------------------------------------------------------------------

std::size_t ShadowEnd::readable() const {
  const std::uint64_t there = theirs().tail.load(std::memory_order_acquire) - mine().head.load(std::memory_order_relaxed);
  return there <= ring_bytes() ? static_cast<std::size_t>(there) : 0;
}

bool ShadowEnd::broken() const {
  return unread() > ring_bytes() || theirs().tail.load(std::memory_order_acquire) - mine().head.load(std::memory_order_relaxed) > ring_bytes();
}

ConstBytes ShadowEnd::next_readable(std::size_t ahead) const {
  const std::size_t there = readable();
  const std::size_t at = static_cast<std::size_t>(mine().head.load(std::memory_order_relaxed) + ahead) & (ring_bytes() - 1);
  return {memory_->ring(1 - side_) + at, std::min(there - std::min(ahead, there), ring_bytes() - at)};
}

void ShadowEnd::take(std::size_t bytes) {
  const std::uint64_t head = mine().head.load(std::memory_order_relaxed);
  note_bulk(bytes, head, ShadowSide::kOfWhatIReceive);
  mine().head.store(head + bytes, std::memory_order_release);
}

std::size_t ShadowEnd::read(Bytes into, bool peek) {
  const std::size_t count = std::min(readable(), into.size());
  if (count == 0) return 0;
  const std::size_t at = static_cast<std::size_t>(mine().head.load(std::memory_order_relaxed)) & (ring_bytes() - 1);
  const std::size_t first = std::min(count, ring_bytes() - at);
  const std::byte* const ring = memory_->ring(1 - side_);
  copy_bytes(into.data(), {ring + at, first});
  if (first < count) copy_bytes(into.data() + first, {ring, count - first});
  if (!peek) take(count);
  return count;
}

// -- Waking --------------------------------------------------------------------------------------------------------

bool ShadowEnd::wake_other() const {
  // What was published is to be seen before the mark is read; who sleeps sets the mark first, and then looks once more.
  publish_before_look(mine());
  const std::uint32_t waiting = theirs().waiting.load(std::memory_order_seq_cst);
  if (waiting == 0) return false;
  if ((waiting & ShadowSide::kSleeps) != 0) wake(theirs());
  return (waiting & ShadowSide::kWantsNews) != 0 &&
         (theirs().waiting.fetch_and(~ShadowSide::kWantsNews, std::memory_order_seq_cst) & ShadowSide::kWantsNews) != 0;
}

void ShadowEnd::wake(ShadowSide& side) {
  side.bell.fetch_add(1, std::memory_order_release);
  (void)::syscall(SYS_futex, &side.bell, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

bool ShadowEnd::sleep(ShadowSide& side, std::uint32_t seen, std::int64_t span) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const struct timespec timeout = {.tv_sec = static_cast<time_t>(span / kSecond), .tv_nsec = static_cast<long>(span % kSecond)};
  return ::syscall(SYS_futex, &side.bell, FUTEX_WAIT, seen, &timeout, nullptr, 0) == 0 || errno != EINTR;
}

}  // namespace stp::host
