// The sending end of a conduit's ring: packets are filled, written, rewritten when they got lost, and forgotten
// when the peer acknowledged them.
//
// Invariants:
//  - the bytes of a sequence number never change once submitted;
//  - a place is filled again only after its packet was acknowledged and every write to it was reaped;
//  - at most one write in flight a place;
//  - an unacknowledged packet is read back after a time, and written again only where the disk differs.
#pragma once

#include <vector>

#include "stp/core.h"
#include "stp/packet.h"

namespace stp {

// Who has messages to send through a ring.
class MessageSource {
 public:
  virtual ~MessageSource() = default;
  virtual bool has_messages() const = 0;
  // Appends what fits; the packet will carry this sequence.
  virtual void fill(PacketBuilder& packet, std::uint64_t sequence) = 0;
  // What the packet that was just filled acknowledges.
  virtual std::uint64_t ack_to_publish() const = 0;
};

class RingSender {
 public:
  RingSender(Core& core, Slot peer) : core_(core), peer_slot_(peer) {}

  // Begins a new pair of incarnations at sequence 1; needs quiet().
  void start(const Identity& self, const Identity& peer);
  void stop() { open_ = false; }
  bool quiet() const { return writes_in_flight_ == 0 && !rechecking_; }

  // Fills and submits packets while there are messages, places and write depth. True when it submitted.
  // `prompt`: a single packet to which the peer has nothing else of mine to take is worth a write of its own (see Medium::carry_out).
  bool pump(MessageSource& source, bool prompt);
  // False when the peer acknowledges what was never sent.
  bool on_ack(std::uint64_t ack);
  // Reads back what has waited too long for its acknowledgement. True, once a timeout, when a doorbell and a wish for an
  // ack are due.
  bool check_timeout();
  Nanos next_deadline() const;

  std::uint64_t head() const { return next_ - 1; }  // highest sequence submitted
  std::uint64_t acked() const { return acked_; }
  bool all_acked() const { return acked_ + 1 == next_; }
  bool half_full() const { return head() - acked_ >= places() / 2; }
  bool full() const { return head() - acked_ >= places(); }
  std::size_t writes_in_flight() const { return writes_in_flight_; }
  Nanos last_write() const { return last_write_; }
  // When a write was last seen to have completed.
  Nanos last_landed() const { return last_landed_; }
  // How long the peer has taken nothing although every packet was verified to be on the disk.
  Nanos stuck_for() const { return stuck_for_; }

 private:
  static constexpr std::uint32_t kMostPacketsAWrite = 32;
  static constexpr std::size_t kWriteDepth = 2;
  static constexpr Nanos kFirstTimeout = 100 * kMillisecond;
  static constexpr Nanos kLongestTimeout = 2 * kSecond;

  std::uint32_t places() const { return core_.geometry().ring_blocks; }
  std::uint32_t index(std::uint64_t sequence) const { return static_cast<std::uint32_t>((sequence - 1) % places()); }
  Bytes packet(std::uint64_t sequence) const;
  bool place_free(std::uint64_t sequence) const;
  void write(std::uint64_t first, std::uint32_t count, bool prompt = false);
  void recheck(Nanos waited);
  void on_rechecked(std::uint64_t first, std::uint32_t count, Nanos waited);

  Core& core_;
  const Slot peer_slot_;
  Identity self_, peer_;
  bool open_ = false;
  AlignedBuffer ring_;
  std::vector<bool> writing_;  // by place
  std::uint64_t next_ = 1;
  std::uint64_t acked_ = 0;
  std::size_t writes_in_flight_ = 0;
  Nanos last_write_ = 0;
  Nanos last_landed_ = 0;
  Nanos waiting_since_ = 0;  // since the oldest unacknowledged packet is the oldest, or was last rechecked
  Nanos timeout_ = kFirstTimeout;
  Nanos stuck_for_ = 0;
  bool rechecking_ = false;
  AlignedBuffer recheck_buffer_;
};

}  // namespace stp
