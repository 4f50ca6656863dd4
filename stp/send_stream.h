// The sending half of a session: bytes that the program gave, until they are in the peer host's memory.
//
// Small data leaves inside packets. Bulk goes to an extent of the cache region, is announced only after its write has
// completed, and stays in memory too until CONSUMED, so that an extent that never verifies can be written again elsewhere.
// Messages leave strictly in the order of their offsets. Kept alive by its writes in flight (shared_ptr).
//
// Bytes are copied when they are taken, or lent: then an extent is written from where its bytes lie. Only whole blocks at block
// boundaries of memory are lent, what is in front of and behind them is copied. Extents end where offsets, or addresses of lent bytes,
// are multiples of a block, if they can: what begins there a receiver can read to where its program wants it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "stp/cache_region.h"
#include "stp/core.h"
#include "stp/lent_memory.h"
#include "stp/memory_budget.h"
#include "stp/packet.h"
#include "stp/plant.h"

namespace stp {

class SendStream : public std::enable_shared_from_this<SendStream> {
 public:
  using Changed = std::function<void()>;  // an extent landed: there may be messages, or more bulk to write
  SendStream(Core& core, CacheRegion& cache, MemoryBudget& budget, Slot peer, std::uint32_t buffer_bytes, Changed changed);
  ~SendStream();

  // -- The program's side
  std::size_t room() const;
  std::size_t take(ConstBytes data);  // at most room() bytes of it
  // The same of memory that stays as it is, and is kept by the loan, until lent() says that it came back. Takes more than room() says, for
  // what is lent takes no memory here. It need not be trusted: what was changed meanwhile is found at the other end, and is copied from then on.
  std::size_t take_lent(ConstBytes data, const Loan& loan);
  // How many of the bytes that were taken last are not to be touched yet: back to the first that is lent.
  std::uint64_t lent() const;
  // Whether lent() has become less since this was last asked, or take_lent() may take what it left for lack of a whole block.
  bool take_returned() { return std::exchange(returned_, false); }
  void finish() { finished_ = true; }
  bool finished() const { return finished_; }
  void set_buffer(std::uint32_t bytes) { buffer_bytes_ = bytes; }
  std::uint64_t accepted() const { return accepted_; }
  std::uint64_t memory() const { return budgeted_; }
  std::uint64_t acked() const;
  // Everything accepted, and the end if there is one, is in the peer host's memory.
  bool settled() const { return heard_all_ || (acked() == accepted_ && (!finished_ || fin_acked_)); }
  // Forgets everything; what is in flight is let go when it lands.
  void abandon();

  // -- The peer's side. False: the peer broke the protocol.
  void set_limit(std::uint64_t limit) { limit_ = planted(Plant::kBeyondCredit) ? UINT64_MAX / 2 : std::max(limit_, limit); }
  bool on_consumed(std::uint64_t offset);
  bool on_nack(std::uint64_t offset, std::uint32_t length, std::uint32_t attempt);
  // The peer says that it has read all, to the end: nothing of that unless the end was said.
  void on_heard_all() { heard_all_ = fin_emitted_; }
  void on_packet_acked(std::uint64_t sequence);

  // -- Messages
  bool has_messages() const;
  bool has_urgent_messages() const;  // the program's own bytes in packets, or the end of the stream
  // Appends what fits and may go. True when something was appended.
  bool emit(PacketBuilder& packet, SessionId session, std::uint64_t sequence);

  // -- Bulk
  bool wants_write() const;
  // Starts one extent write, of how many bytes; 0 when there is no extent to be had. `done` runs at its end.
  std::uint32_t start_write(std::function<void()> done);
  bool streaming() const { return writing_ > 0 || !announced_.empty(); }
  // An extent could not be written, wherever it was tried.
  bool failed() const { return failed_; }
  bool queued_for_write = false;  // the scheduler's mark

 private:
  static constexpr std::uint32_t kMostAttempts = 16;  // a peer that asks more often wants to keep me busy
  static constexpr int kMostDoublings = 4;
  static constexpr Nanos kFirstRest = 10 * kMillisecond;
  static constexpr std::size_t kLeastLoan = 16 * 1024;  // what is less goes in packets just as well

  struct Segment {
    std::uint64_t offset = 0;
    std::uint32_t filled = 0;
    std::uint32_t sent = 0;  // inline bytes already in packets
    std::uint32_t extent = CacheRegion::kNone;
    std::uint32_t attempt = 0;
    std::uint64_t hash = 0;    // of the first `hashed` bytes
    std::uint32_t hashed = 0;
    bool bulk = false;      // meant for an extent
    bool writing = false;
    bool landed = false;
    bool doomed = false;    // let go when the write lands
    bool resting = false;   // after an I/O error
    int errors = 0;
    Nanos failing_since = 0;
    std::uint32_t capacity = 0;
    AlignedBuffer buffer;              // or, without one:
    const std::byte* lent = nullptr;
    Keeper keeper;
    const std::byte* data() const { return lent != nullptr ? lent : buffer.data(); }
    std::uint64_t end() const { return offset + filled; }
    // Only as long as nothing of it is under way: an extent is written once.
    bool takes_more() const { return !writing && !landed && filled < capacity; }
  };
  using SegmentPtr = std::shared_ptr<Segment>;

  std::uint64_t held() const { return accepted_ - acked(); }
  void copy(ConstBytes data, bool before_loan);
  void copy_loan(Segment& segment);
  bool tail_takes_loan(ConstBytes data) const;
  std::size_t copied_before_loan(ConstBytes data) const;
  std::size_t lend(ConstBytes data, const Keeper& keeper);
  void add_segment(std::size_t more, bool before_loan);
  std::size_t bulk_buffer_bytes(std::size_t more, std::uint64_t waiting) const;
  SegmentPtr next_bulk() const;
  bool goes_inline(const Segment& segment) const;
  bool inline_ready(const Segment& segment) const;
  bool emit_inline(PacketBuilder& packet, SessionId session, std::uint64_t sequence);
  bool emit_extent(PacketBuilder& packet, SessionId session);
  bool emit_renewed(PacketBuilder& packet, SessionId session);
  void write(const SegmentPtr& segment, std::function<void()> done);
  void release(const SegmentPtr& segment);
  void rest(const SegmentPtr& segment);
  void let_go(Segment& segment);
  static void hash(Segment& segment);
  void tell_changed();
  void note_emitted(std::uint64_t sequence);

  Core& core_;
  CacheRegion& cache_;
  MemoryBudget& budget_;
  const Slot peer_;
  Changed changed_;
  std::uint32_t buffer_bytes_;
  std::uint64_t accepted_ = 0;
  std::uint64_t emitted_ = 0;  // offsets below it are in packets, or announced
  std::uint64_t limit_ = 0;    // the peer's credit
  std::uint64_t consumed_ = 0;
  std::uint64_t inline_acked_ = 0;
  std::uint64_t budgeted_ = 0;  // bytes of the shared budget that this stream's buffers hold
  std::deque<SegmentPtr> pending_;    // not yet (fully) emitted
  std::deque<SegmentPtr> announced_;  // extents not yet consumed
  std::deque<SegmentPtr> doomed_;     // needed no more, but lent and being written
  std::deque<SegmentPtr> renewing_;   // announced, asked for again: to write, writing, or landed and to announce
  struct Emitted {
    std::uint64_t sequence = 0, end = 0;
  };
  std::deque<Emitted> unacked_packets_;
  std::size_t writing_ = 0;
  bool finished_ = false;
  bool fin_emitted_ = false;
  bool heard_all_ = false;
  std::uint64_t fin_sequence_ = 0;
  bool fin_acked_ = false;
  bool failed_ = false;
  bool lends_ = true;       // until a peer could not verify what was lent
  bool lent_before_ = false;
  bool returned_ = false;
};

}  // namespace stp
