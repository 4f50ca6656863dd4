// The medium: whole blocks in and out of the data storage system, asynchronously.
//
// Implementations: direct (O_DIRECT through io_uring or a thread pool), mapped (mmap), and the simulator's.
// One Medium serves one engine (or one membership). Threads: submit, flush and reap are called
// under the owner's lock, one thread at a time; wait is called without it, and only one thread waits at
// a time, possibly while another submits; wake may come from any thread.
//
// Contract:
//  - no order between requests in flight, not even to one block; the atomic unit is one logical block;
//  - every submitted request completes exactly once; its buffer belongs to the medium until that completion was reaped,
//    however long it takes: there is no cancel;
//  - a read gives what some completed or in-flight write left, or what was there before; never a mix within one
//    logical block (8 aligned bytes in mapped mode);
//  - destroying a medium waits until nothing is in flight any more.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "stp/bytes.h"
#include "stp/timing.h"

namespace stp {

inline constexpr std::size_t kMaxRequestBytes = 512 * 1024;
inline constexpr std::size_t kBufferAlignment = 4096;

struct IoRequest {
  enum class Op : std::uint8_t { kRead, kWrite };
  Op op = Op::kRead;
  std::uint64_t block = 0;   // first block
  std::uint32_t blocks = 0;  // 1 up to kMaxRequestBytes of them, inside the storage
  std::byte* buffer = nullptr;  // blocks * block_size bytes, aligned to kBufferAlignment
  std::uint64_t token = 0;   // comes back in the completion
  bool prompt = false;       // a small write for which a program waits: may be kept for carry_out()
};

struct IoCompletion {
  std::uint64_t token = 0;
  int error = 0;  // 0 or an errno; a short transfer is EIO
};

class Medium {
 public:
  virtual ~Medium() = default;
  virtual std::uint32_t block_size() const = 0;
  virtual std::uint64_t total_blocks() const = 0;

  // Takes a request. Never fails and never blocks for long: failure comes as a completion.
  virtual void submit(const IoRequest& request) = 0;
  // Makes sure that everything submitted is on its way.
  virtual void flush() = 0;
  // A medium may keep one prompt write back for carry_out(): whoever steps the owner calls that soon, without the lock, from the
  // thread that has nothing better to do, which then does the write itself; or let_go(), under the lock, which submits it like
  // any other where that thread must not be held up by a device that stalls.
  virtual bool keeps() const { return false; }  // any thread
  virtual void carry_out() {}
  virtual void let_go() {}
  // Takes up to out.size() completions that are there; does not wait.
  virtual std::size_t reap(std::span<IoCompletion> out) = 0;
  // Returns when a completion may be there, after wake(), or at `deadline` (CLOCK_BOOTTIME); early returns are fine.
  // Looks and yields for up to `spin` before it sleeps.
  virtual void wait(Nanos deadline, Nanos spin) = 0;
  virtual void wake() = 0;
  // Has wait() end, once, when `fd` (one and the same for the medium's life, and open as long) is readable, too; reap() then ends watching(),
  // and it is to be asked for again. False: this medium can not, or not any more. Under the lock.
  virtual bool watch(int) { return false; }
  virtual bool watching() const { return false; }
  // How many requests this thread handed to the kernel are under way. io_uring tells of a completion by the thread that handed the request in: where that one
  // ends meanwhile it is told one or two ticks of the kernel's clock late (4 to 8 ms), and everybody waits as long. Any thread, without the lock.
  // Nothing: it is all the same.
  using Count = std::atomic<unsigned>;
  virtual std::shared_ptr<const Count> under_way_by_this_thread() const { return nullptr; }
};

// Memory fit for any medium: aligned to kBufferAlignment, size rounded up to it, zeroed.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size);
  AlignedBuffer(AlignedBuffer&&) = default;
  AlignedBuffer& operator=(AlignedBuffer&&) = default;
  // As many buffers of `size` bytes, a power of two of at most 2 MiB, as fit into one huge page where the kernel gives one:
  // a request whose memory lies together is one piece for the device, and not one a page, which halves what large requests
  // cost a virtual disk. The page is given back when the last of them is gone.
  static std::vector<AlignedBuffer> of_huge_page(std::size_t size);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  Bytes span() const { return {data_.get(), size_}; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  std::shared_ptr<std::byte> data_;  // of one owner; shared only to keep a huge page that several lie in
  std::size_t size_ = 0;
};

}  // namespace stp
