// One conversation carried on between an ordinary stream socket (TCP or Unix) and an STP socket: bytes both ways, each end of one side
// told to the other as such (half-close), and a reset as a reset, so that nobody takes a cut-off stream for a whole one.
//
// Lives in an EventLoop's thread and keeps itself alive until both directions have ended or one side broke. Never waits, and moves a bounded
// amount in a turn: a slow conversation stalls no other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "hostlib/event_loop.h"
#include "hostlib/unique_fd.h"

namespace stp {

// How the kernel's socket is reset. A TCP socket is closed with SO_LINGER 0. A Unix stream socket resets its peer only if it is closed with
// something unread in it (unix(7) does not say so; Linux does it since 2.4): so the last byte that came is left there until the
// next one comes. `head_bytes` of the program's side went ahead of its data and are not handed on; one of them stays, and the rest is
// taken by whoever makes the relay. With kUnixHeadMayCome it is to begin with the bytes given as
// its head; what begins otherwise has none, nothing is left in the queue then, and a reset looks like an end. With
// kUnix there is no head, and the program may be any: a byte stays only if little came with it. So a program that never sent anything, or
// sent much at last, sees an end instead of a reset.
enum class KernelSide { kTcp, kUnix, kUnixWithHead, kUnixHeadMayCome };

class Relay : public std::enable_shared_from_this<Relay> {
 public:
  struct Totals {
    std::uint64_t to_stp = 0, from_stp = 0;
  };
  using Ended = std::function<void(const Totals&, bool in_good_order)>;

  // Takes over both sockets, connected and non-blocking both.
  static std::shared_ptr<Relay> start(EventLoop& loop, UniqueFd kernel, KernelSide side, int stp_socket, Ended ended,
                                      std::vector<std::byte> head = {});
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Resets both sides.
  void abort();
  // Whether from now on the program's close counts as a reset (it had set SO_LINGER to 0, which a Unix socket does not tell). Once this side
  // has told it the end of what comes, a close can not be told from an end, and is one.
  void reset_when_closed(bool is_reset) { reset_when_closed_ = is_reset; }
  // So far.
  const Totals& totals() const { return totals_; }

 private:
  Relay(EventLoop& loop, UniqueFd kernel, KernelSide side, int stp_socket, Ended ended);
  enum class Step { kMoved, kWaits, kEnded, kBroken };
  bool begin();
  bool kernel_was_reset() const;
  void turn();
  void turn_soon();
  Step move_to_stp();
  Step move_from_stp();
  Step look_at_kernel();
  bool leaves_one() const;
  std::optional<std::size_t> queued_in_kernel() const;
  // Each puts what comes into the room and says how much it was.
  Step take_from_kernel(std::span<std::byte> room, std::size_t& taken);
  Step take_all(std::span<std::byte> room, std::size_t& taken);
  Step take_leaving_one(std::span<std::byte> room, std::size_t& taken);
  // Without a copy of what is moved; nothing: that can not be, here.
  std::optional<Step> move_to_stp_in_place();
  std::optional<Step> move_from_stp_in_place();
  Step end_to_stp();
  Step end_from_stp();
  Step give_to_stp(std::span<const std::byte> bytes);
  Step give_to_kernel(std::span<const std::byte> bytes);
  Step take_head();
  void reset_when_it_comes();
  void watch_stp();
  bool watch_for_reset();
  bool stp_was_reset() const;
  void end(bool in_good_order);
  void reset_kernel();

  EventLoop& loop_;
  UniqueFd kernel_;
  const KernelSide side_;
  int stp_;
  int stp_readable_ = -1, stp_writable_ = -1, stp_broken_ = -1;  // STPgetpollfd's; the library's
  Ended ended_;
  Totals totals_;
  // What was taken from one side and the other had no room for.
  struct Leftover {
    std::vector<std::byte> bytes;
    std::size_t begin = 0;
    std::span<const std::byte> span() const { return std::span(bytes).subspan(begin); }
    void keep(std::span<const std::byte> rest);
    void skip(std::size_t count);
  };
  Leftover to_stp_, from_stp_;
  bool to_stp_ended_ = false, from_stp_ended_ = false;
  bool kernel_hung_up_ = false;     // no more will come than is there
  bool reset_when_closed_ = false;
  std::vector<std::byte> head_;     // not seen yet: what comes may begin with it
  std::size_t left_in_kernel_ = 0;  // bytes at the front of the kernel's queue that were handed on already (or are the head)
  bool wants_readable_ = false, wants_writable_ = false;
  bool turn_is_due_ = false;
  std::shared_ptr<Relay> self_;     // until the end
};

}  // namespace stp
