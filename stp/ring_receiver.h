// The receiving end of a conduit's ring: looks at the next place, checks what lies there, hands over its messages in
// sequence, and looks less and less often when nothing comes.
//
// hot: the ring is polled directly. After a while without a packet it wants to cool down: the conduit publishes "I do not
// poll" in its gate, one last look follows, and from then on only a doorbell (the head in the peer's gate) makes it hot
// again. The while is longer than an idle host of this group takes to look at its gates (unless that is very long): its answer to
// what I sent shall find me hot. Otherwise two hosts whose looks at the gates fall together would wait a period for each packet, for ever.
//
// A look is a read of a place or two. Request and reply are fastest when the two hosts keep step: the one's packet is written, and
// the other's look lies in the device's queue right behind it. So the first look follows soon after a packet of my own has landed, and
// when that was too early last time, a second one follows the first before that is back. An answer is one packet mostly, and each further block
// costs time: there the look is at one place, and at more of them when packets come that are no answers, or while extents are under way. Where answers come from another process (an agent's
// programs) they take longer, and how long is learned: looks that are too early stand in the device's queue before the answer, and a
// device may tell of nothing before all of its queue is done.
#pragma once

#include <array>

#include "stp/core.h"
#include "stp/packet.h"

namespace stp {

class PacketHandler {
 public:
  virtual ~PacketHandler() = default;
  virtual void on_ack_in_packet(std::uint64_t ack) = 0;
  virtual void on_message(const Message& message) = 0;
  virtual void on_protocol_fault() = 0;
};

class RingReceiver {
 public:
  RingReceiver(Core& core, Slot peer) : core_(core), peer_slot_(peer) {}

  void start(const Identity& self, const Identity& peer);
  void stop() { open_ = false; }
  bool quiet() const { return looking() == 0; }

  // A packet of mine has landed (a repeated `at` is no news): the peer may answer it.
  void expect_answer(Nanos at);
  // The peer's gate says that packets up to `head` are there.
  void on_doorbell(std::uint64_t head);
  // An answer is expected: look often again.
  void warm();
  // Submits the next look when it is due; `hold` puts it off until something else completes.
  void poll(PacketHandler& handler, bool hold, Nanos slowest_when_busy);
  Nanos next_deadline() const;

  std::uint64_t taken() const { return taken_; }  // highest sequence handed over
  std::uint64_t spoken() const { return spoken_; }  // highest with a message in it
  std::uint64_t announced() const { return announced_; }
  bool hot() const { return open_ && hot_; }
  bool wants_to_cool() const;
  // The gate without the polling flag has landed.
  void cool();
  Nanos last_look() const { return last_looked_; }
  // Whether a look that began after `since` is back and found nothing more.
  bool nothing_since(Nanos since) const { return nothing_at_ > since; }
  Nanos idle() const { return core_.now - active_at_; }

 private:
  static constexpr std::uint32_t kLeastInStreams = 2;
  static constexpr std::uint32_t kMostSpan = 32;
  static constexpr Nanos kCoolAfter = 40 * kMillisecond;    // at least
  static constexpr Nanos kCoolAtLast = 250 * kMillisecond;
  static constexpr Nanos kShortestPause = 2 * kMicrosecond;
  static constexpr Nanos kSlowLook = 10 * kMicrosecond;
  static constexpr Nanos kAnswerFirst = 30 * kMicrosecond;  // a look before the program's own answer would only delay that
  static constexpr Nanos kEager = 500 * kMicrosecond;       // so long without any pause
  static constexpr Nanos kTurn = 5 * kMicrosecond;          // from a packet's being there to the answer's being submitted, at best
  static constexpr Nanos kLongerTurn = 4 * kMicrosecond;    // after a look that was too early
  static constexpr Nanos kShorterTurn = 3 * kMicrosecond;      // after one that was not
  static constexpr Nanos kLongestTurn = 150 * kMicrosecond;
  static constexpr Nanos kSlowTurn = 300 * kMicrosecond;    // an answer that took longer says nothing about the next
  static constexpr Nanos kApart = 14 * kMicrosecond;        // the second look from the first
  static constexpr Nanos kTurnEndsAfter = 200 * kMicrosecond;  // since the last look
  static constexpr Nanos kLongestPause = 5 * kMillisecond;
  static constexpr Nanos kMissingBound = kSecond;  // a packet that the peer announced and that does not check is a fault then

  struct Look {
    AlignedBuffer buffer;
    bool reading = false;
    Nanos began = 0;
    std::uint64_t first = 0;  // sequence that belongs into its first block
    std::uint32_t blocks = 0;
  };
  int looking() const { return looks_[0].reading + looks_[1].reading; }
  bool eager() const { return core_.now - active_at_ < kEager; }
  void look(PacketHandler& handler, Look& look);
  void on_read(PacketHandler& handler, Look& look, int error);
  bool learn_step();
  std::uint32_t least_span() const { return busy_pause_ > 0 ? kLeastInStreams : 1; }
  bool take(PacketHandler& handler, ConstBytes block);
  void schedule(bool found, bool more);

  Core& core_;
  const Slot peer_slot_;
  Identity self_, peer_;
  bool open_ = false;
  bool hot_ = false;
  bool last_look_ = false;  // the one after cooling
  std::array<Look, 2> looks_;
  Nanos mine_landed_ = 0;
  std::uint32_t looks_since_ = 0;  // begun after that, and back
  bool out_of_step_ = false;       // the first look was too early last time
  Nanos turn_ = kTurn;             // from my packet's landing to the first look
  std::uint64_t life_ = 0;  // counts start(): a read of an earlier pair is ignored
  std::uint64_t taken_ = 0;
  std::uint64_t spoken_ = 0;
  std::uint64_t announced_ = 0;
  std::uint32_t span_ = 1;
  Nanos active_at_ = 0;
  Nanos next_look_ = 0;
  Nanos programs_turn_ends_ = 0;  // after a packet with none behind it
  Nanos last_looked_ = 0;
  Nanos nothing_at_ = 0;  // when the last look began that found nothing
  Nanos busy_pause_ = 0;
  Nanos missing_since_ = 0;
};

}  // namespace stp
