// The receiving half of a session: what arrived, in order, until the program takes it.
//
// Extents are read at once, whether or not the program reads: credit is memory here. An extent that does not verify is
// read again a few times, then asked for again (NACK), then the session is given up; all of it bounded. Nothing is
// delivered before everything in front of it was verified. Kept alive by its reads in flight (shared_ptr).
//
// Where the program's side has shown its room (Landing), extents of whole blocks are read to the places that they will be delivered to.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "stp/core.h"
#include "stp/lent_memory.h"
#include "stp/memory_budget.h"
#include "stp/packet.h"

namespace stp {

class ReceiveStream : public std::enable_shared_from_this<ReceiveStream> {
 public:
  static constexpr std::uint32_t kFloorWindow = 16 * 1024;  // never less for an open socket
  using Changed = std::function<void()>;  // something became readable, or there are messages to send

  ReceiveStream(Core& core, MemoryBudget& budget, Slot peer, std::uint32_t most_window, Changed changed);
  ~ReceiveStream();

  // -- The program's side
  std::uint64_t readable() const { return ready_ - read_; }
  std::size_t read(Bytes into, bool peek);  // what landed in `into` already is not copied
  void land_in(std::shared_ptr<Landing> landing) { landing_ = std::move(landing); }
  bool at_end() const { return fin_ && (read_ == *fin_ || fin_early_); }
  bool complete() const { return fin_ && ready_ == *fin_; }  // all of it is in memory
  void discard();  // the program will not read any more: what is here and what comes is dropped
  bool discarding() const { return discarding_; }
  bool fetching() const { return expected_ > ready_; }  // something announced is not in memory yet
  std::uint64_t dropped() const { return dropped_; }
  std::uint64_t received() const { return ready_; }
  void set_most_window(std::uint32_t bytes) { most_window_ = std::max(bytes, kFloorWindow); }
  void abandon();

  // -- The peer's side. False: the peer broke the protocol.
  bool on_data(std::uint64_t offset, ConstBytes bytes);
  bool on_extent(const ExtentMessage& message);
  bool on_fin(std::uint64_t total);
  // An extent never verified: the session can not go on.
  bool failed() const { return failed_; }

  // -- Messages: CREDIT, CONSUMED, NACK
  bool has_messages() const { return credit_due() || consumed_due_ || !nacks_.empty(); }
  bool emit(PacketBuilder& packet, SessionId session);
  std::uint64_t limit_for_open();  // the credit that OPEN or OPEN_ACK carries

  // -- Bulk
  bool wants_read() const { return changed_ != nullptr && next_piece() != nullptr; }
  bool start_read(std::function<void()> done);
  bool streaming() const { return extents_waiting_ > 0; }
  bool queued_for_read = false;  // the scheduler's mark

 private:
  // While memory is plenty, and while it is more than that: less than a few extents makes a stream begin in packets.
  static constexpr std::uint32_t kFirstWindow = 256 * 1024;
  static constexpr std::uint32_t kAmpleFirstWindow = 1024 * 1024;
  static constexpr Nanos kQuick = 50 * kMillisecond;  // who uses up a window in so little time would use a larger one
  static constexpr int kMostReads = 4;      // of one announced extent before it is asked for again
  static constexpr std::uint32_t kMostAttempts = 8;  // of its peer to write one extent; that takes twice as many from whoever asks
  static constexpr Nanos kFirstRest = 2 * kMillisecond;
  static constexpr Nanos kErrorRest = 50 * kMillisecond;

  struct Piece {
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t taken = 0;
    enum class State : std::uint8_t { kReady, kWaiting, kReading, kResting, kNacked } state = State::kReady;
    bool extent = false;
    std::uint64_t place = 0;
    std::uint64_t hash = 0;
    std::uint32_t attempt = 0;
    int reads = 0;
    Nanos failing_since = 0;
    AlignedBuffer buffer;  // or, without one:
    std::byte* landed = nullptr;
    std::shared_ptr<Landing> landing;  // keeps that
    std::byte* data() const { return landed != nullptr ? landed : buffer.data(); }
    std::uint64_t end() const { return offset + length; }
  };
  using PiecePtr = std::shared_ptr<Piece>;

  PiecePtr next_piece() const;
  void find_place(Piece& piece, std::uint32_t blocks);
  void let_go(Piece& piece);
  void on_read(const PiecePtr& piece, int error);
  void read_again(const PiecePtr& piece);
  void rest_after_error(const PiecePtr& piece);
  void rest(const PiecePtr& piece, Nanos span);
  Nanos patience() const;
  void tell_changed();
  void advance();
  void drop_ready();
  void forget_read();
  bool credit_due() const;
  std::uint64_t limit() const { return read_ + window_; }
  bool used_up_quickly();
  void grow_window();

  Core& core_;
  MemoryBudget& budget_;
  const Slot peer_;
  Changed changed_;
  std::uint32_t most_window_;
  std::uint32_t window_ = 0;
  std::uint64_t granted_ = 0;   // the limit last sent
  std::uint64_t mark_ = 0;      // a limit that was sent at mark_at_
  Nanos mark_at_ = 0;
  std::uint64_t expected_ = 0;  // the next offset that a message must have
  std::uint64_t ready_ = 0;     // offsets below it are verified and in memory, or taken
  std::uint64_t read_ = 0;      // offsets below it were taken by the program
  std::uint64_t dropped_ = 0;
  std::deque<PiecePtr> pieces_;
  std::shared_ptr<Landing> landing_;
  std::deque<NackMessage> nacks_;
  std::size_t extents_waiting_ = 0;
  bool consumed_due_ = false;
  bool discarding_ = false;
  bool failed_ = false;
  std::optional<std::uint64_t> fin_;
  bool fin_early_ = false;
};

}  // namespace stp
