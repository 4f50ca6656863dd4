// The shadow of a socket: memory that a program shares with whoever is on the other side of it, its agent or another program of
// the agent. Two byte rings, one each way, and for each side what it did and what it waits for.
//
// One memory file a socket, made by the agent, sealed so that its size can not change. Layout (native byte order, one machine):
//
//   H      "STPSHADW", version, ring size (bytes, a power of two), zeros
//   H+256  side 0, see ShadowSide             side 0 is the program that opened the socket;
//   H+512  side 1                             side 1 the agent, or the program that accepted the connection
//   4096   ring of what side 0 sends, then the ring of what side 1 sends; where a ring is 1 MiB or more, they begin at 2 MiB
//
// H, a multiple of 256 and told with the descriptor, is another one from socket to socket. Memory files begin at pages, large ones at huge
// pages: headers at one place in each of them would share a few sets of the processor's caches and of its table of addresses, and a program
// with a thousand sockets would find next to nothing there.
//
// Programs have large rings made into huge pages as soon as bulk passes through them: the first lap costs no page faults then, and the agent's
// device reads and writes them in one piece, see agent_transfer.h. The agent itself never asks the kernel for that: it takes as long as
// others have mapped the memory often, which a hostile program may do.
//
// Counters only go up; a place in a ring is its counter modulo the ring size. Publishing is writing `tail`: the bytes are there before
// it (release). Giving back room is writing `head`. Each side writes its own fields alone, but for those that say otherwise.
//
// Whatever the other side wrote there is not trusted: counters that make no sense end the conversation, and no place outside of the
// rings is ever touched. A side that lies hurts this one socket.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <memory>

#include "stp/bytes.h"

namespace stp::host {

struct ShadowSide {
  static constexpr std::uint32_t kEnd = 1;    // ended: nothing comes after tail
  static constexpr std::uint32_t kReset = 2;  // ended: the conversation broke after tail
  static constexpr std::uint32_t kDrops = 1;  // deaf: takes and drops what comes (shutdown of reading)
  static constexpr std::uint32_t kGone = 2;   // deaf: closed; what comes is answered with a reset
  static constexpr std::uint32_t kOfWhatISend = 1, kOfWhatIReceive = 2;  // huge: the ring
  static constexpr std::uint32_t kSleeps = 1;     // waiting: threads sleep on `bell`
  static constexpr std::uint32_t kWantsNews = 2;  // waiting: tell through the news board; taken off by who tells

  // What this side sends.
  alignas(64) std::atomic<std::uint64_t> tail;
  std::atomic<std::uint32_t> ended;
  std::atomic<std::uint32_t> deaf;
  std::atomic<std::uint32_t> huge;  // lies in huge pages. Who says so wrongly makes its own bulk slow
  // What this side takes. Alone: the sender looks at everything else here far more often than at this.
  alignas(64) std::atomic<std::uint64_t> head;
  // How to wake it.
  alignas(64) std::atomic<std::uint32_t> waiting;
  std::atomic<std::uint32_t> bell;  // counts up at each wake, by the other side and the agent
  // What the agent says about this side's socket.
  alignas(64) std::atomic<std::uint32_t> state;   // kConnected and so on
  std::atomic<std::uint32_t> error;   // errno, with kOver
  std::atomic<std::uint32_t> reason;  // stp::Reason that goes with it
  std::atomic<std::uint32_t> queued;  // of a listener: connections that wait for accept

  static constexpr std::uint32_t kConnected = 1;
  static constexpr std::uint32_t kOver = 2;     // `error` says why
  static constexpr std::uint32_t kDrained = 4;  // closed, and nothing of it is under way any more
  static constexpr std::uint32_t kLost = 8;     // with kDrained: not everything had arrived
};
static_assert(sizeof(ShadowSide) == 256 && std::atomic<std::uint64_t>::is_always_lock_free);

struct ShadowHeader {
  static constexpr char kMagic[8] = {'S', 'T', 'P', 'S', 'H', 'A', 'D', 'W'};
  static constexpr std::uint32_t kVersion = 4;
  char magic[8];
  std::uint32_t version;
  std::uint32_t ring_bytes;
  alignas(256) ShadowSide side0;
  alignas(256) ShadowSide side1;
};
static_assert(sizeof(ShadowHeader) == 768);

// The mapping. Owned by the processes that have it; the memory goes with the last of them.
class ShadowMemory {
 public:
  static constexpr std::uint32_t kHeaderBytes = 4096;  // of the file, at least: a page that holds the header
  static constexpr std::size_t kHugePage = 2u << 20;
  static constexpr std::uint32_t kSmallestRing = 4096;
  static constexpr std::uint32_t kLargestRing = 64u << 20;

  // By the agent. `ring_bytes` is rounded up to a power of two within the bounds. The errors are errno values.
  static std::expected<std::shared_ptr<ShadowMemory>, int> create(std::uint32_t ring_bytes);
  // A memory file that came from another process: EPROTO when it is none of ours, or not sealed. The descriptor stays the caller's.
  static std::expected<std::shared_ptr<ShadowMemory>, int> map(int fd, std::uint64_t header_at);
  ~ShadowMemory();
  ShadowMemory(const ShadowMemory&) = delete;
  ShadowMemory& operator=(const ShadowMemory&) = delete;

  // Of the creator, to hand it on; -1 in one that was mapped.
  int fd() const { return fd_; }
  std::uint32_t header_at() const { return static_cast<std::uint32_t>(reinterpret_cast<std::byte*>(header_) - base_); }
  std::uint64_t touched_bytes() const;  // 0 in one that was mapped
  ShadowSide& side(int number) { return number == 0 ? header_->side0 : header_->side1; }
  std::byte* ring(int number) { return base_ + rings_at(ring_bytes_) + static_cast<std::size_t>(number) * ring_bytes_; }
  std::uint32_t ring_bytes() const { return ring_bytes_; }
  static std::size_t whole_size(std::size_t ring_bytes) { return rings_at(ring_bytes) + 2 * ring_bytes; }
  // Rings that are large enough for huge pages.
  bool large() const { return rings_at(ring_bytes_) == kHugePage; }
  // Makes a large ring one of huge pages; false when the kernel can not (MADV_COLLAPSE, Linux 6.1). Takes about half a millisecond for each
  // page. Tried once, and only by a program: by who mapped it, not by who made it.
  bool make_huge(int ring_number);

 private:
  ShadowMemory() = default;
  static std::size_t rings_at(std::size_t ring_bytes) { return 2 * ring_bytes < kHugePage ? kHeaderBytes : kHugePage; }
  bool map_file(int fd, std::size_t bytes, std::uint64_t header_at);
  int fd_ = -1;
  std::byte* base_ = nullptr;
  std::size_t bytes_ = 0;
  std::array<bool, 2> tried_{};
  ShadowHeader* header_ = nullptr;
  std::uint32_t ring_bytes_ = 0;  // private copy: the shared one is not trusted
};

// One side's view. Any number of threads of one side under one lock; the other side needs none.
class ShadowEnd {
 public:
  ShadowEnd() = default;
  ShadowEnd(std::shared_ptr<ShadowMemory> memory, int side) : memory_(std::move(memory)), side_(side) {}
  explicit operator bool() const { return memory_ != nullptr; }
  const std::shared_ptr<ShadowMemory>& memory() const { return memory_; }
  int side() const { return side_; }
  ShadowSide& mine() const { return memory_->side(side_); }
  ShadowSide& theirs() const { return memory_->side(1 - side_); }

  // Sending. room() is 0 when the other side's counter makes no sense.
  std::size_t room() const;
  std::size_t write(ConstBytes data);                // what was taken; published
  Bytes next_room() const;                           // the next free piece that lies together, to be filled and then
  void publish(std::size_t bytes);                   // published
  std::uint64_t unread() const;                      // sent, and not taken by the other side yet

  // For a device to fill: the place of `bytes` bytes that will be published `ahead` bytes further, if they are free, and lie together there in
  // huge pages and at a multiple of kBufferAlignment; else null.
  std::byte* place(std::uint64_t ahead, std::size_t bytes) const;

  // Receiving. readable() is 0 when the other side's counter makes no sense.
  std::size_t readable() const;
  std::size_t read(Bytes into, bool peek);
  ConstBytes next_readable(std::size_t ahead = 0) const;  // the next piece that lies together, `ahead` bytes further, to be taken and then
  void take(std::size_t bytes);                      // given back
  bool readable_in_huge_pages() const { return memory_->large() && (theirs().huge.load(std::memory_order_relaxed) & ShadowSide::kOfWhatISend) != 0; }
  // Everything that the other side will ever send was taken. The end is read first: what was published before it is there then.
  bool at_end() const { return (ended() & ShadowSide::kEnd) != 0 && readable() == 0; }
  // The conversation broke, and what was sent before was taken.
  bool at_reset() const { return (ended() & ShadowSide::kReset) != 0 && readable() == 0; }
  // The other side's counters make no sense: treat it as a reset.
  bool broken() const;

  void end(std::uint32_t how) { mine().ended.fetch_or(how, std::memory_order_seq_cst); }
  void stop_listening(std::uint32_t how) { mine().deaf.fetch_or(how, std::memory_order_seq_cst); }
  std::uint32_t ended() const { return theirs().ended.load(std::memory_order_acquire); }
  std::uint32_t deaf() const { return theirs().deaf.load(std::memory_order_acquire); }

  // After anything that the other side may wait for: wakes those who sleep there. True: it also wants news through the board (the
  // mark is taken off).
  bool wake_other() const;
  // Asks for news of what follows; look again afterwards. Whoever asked before, and was told nothing yet, need not write there: the line
  // stays where it is, in the cache of the other side too.
  void want_news() const {
    std::atomic<std::uint32_t>& waiting = mine().waiting;
    if ((waiting.load(std::memory_order_seq_cst) & ShadowSide::kWantsNews) == 0) waiting.fetch_or(ShadowSide::kWantsNews, std::memory_order_seq_cst);
  }

  static void wake(ShadowSide& side);
  // Sleeps while the bell of `side` is `seen`, at most `span` nanoseconds. False when a signal ended it.
  static bool sleep(ShadowSide& side, std::uint32_t seen, std::int64_t span);

 private:
  std::size_t ring_bytes() const { return memory_->ring_bytes(); }
  std::size_t room_for(std::size_t wanted) const;
  void touch_ahead(std::uint64_t tail) const;
  void note_bulk(std::size_t bytes, std::uint64_t so_far, std::uint32_t which) const;
  std::shared_ptr<ShadowMemory> memory_;
  int side_ = 0;
  // Of the first lap of what this side sends: from where on there may be no memory yet.
  static constexpr std::uint64_t kTouchFrom = 16 * 1024;
  mutable std::uint64_t touch_at_ = kTouchFrom;
  mutable std::uint64_t seen_head_ = 0;  // the other side's, at the last look: it may have taken more since
};

}  // namespace stp::host
