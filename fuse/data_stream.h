// A connected STP socket as several programs read and write it at once, none of them waiting in a thread of ours: what can be done now
// is done in the calling thread, everything else waits in order and is answered by the loops.
//
// Readers get the bytes in the order in which they asked, writers' bytes go out in the order in which they came. Whatever waits ends
// when it is interrupted (EINTR), when the timeout passes (ETIMEDOUT), or when the conversation ends: with the socket's error; the
// end of the stream is told only where the peer ended it. What breaks a stream is told to everybody from then on, after what came ahead.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fuse/loops.h"
#include "fuse/request.h"
#include "hostlib/stp_socket.h"
#include "stp/error.h"

namespace stp::view {

class DataStream : public std::enable_shared_from_this<DataStream> {
 public:
  using Clock = EventLoop::Clock;
  // What went wrong, in words for people. Any thread; takes no locks of a stream.
  using Note = std::function<void(std::string words)>;
  // Larger requests are answered in part.
  static constexpr std::size_t kMostAtOnce = 1 << 20;

  // In the thread of the calls, with a connected non-blocking socket.
  static Result<std::shared_ptr<DataStream>> make(Loops loops, StpSocket socket, Note note);
  ~DataStream();
  DataStream(const DataStream&) = delete;
  DataStream& operator=(const DataStream&) = delete;

  // -- Any thread. `wait` false: EAGAIN, or what could be done, at once.
  void read(std::shared_ptr<Request> request, std::size_t most, bool wait);
  // Answered when all is taken; when many wait already, with a part.
  void write(std::shared_ptr<Request> request, ConstBytes bytes, bool wait);
  // Somebody who wrote is about to go: answered when what was written is in the memory of the peer's host, with the error when it will
  // never be, and well when that has taken kLongestDrain: then it goes on by itself, and the next who asks waits again.
  void drain(std::shared_ptr<Request> request);
  static constexpr std::chrono::seconds kLongestDrain{3};
  // After what waits to be written the peer sees the end of the stream; nothing else is taken. Reading goes on.
  void end_sending();
  // Everything that waits, and comes, fails with this. What was written goes on to the peer.
  void end(int error);
  // 0: none. For what begins to wait from now on.
  void set_timeout(std::chrono::milliseconds span);

  // The bits of poll(2). `waker` is told with the next change, and replaces what this `file` gave before.
  std::uint32_t poll(const void* file, std::shared_ptr<Waker> waker);
  void forget(const void* file);

  std::uint64_t bytes_read() const;
  std::uint64_t bytes_written() const;

 private:
  struct Reader {
    std::uint64_t id = 0;
    Clock::time_point until{};
    std::shared_ptr<Request> request{};
    std::size_t most = 0;
  };
  struct Writer {
    std::uint64_t id = 0;
    Clock::time_point until{};
    std::shared_ptr<Request> request{};
    std::size_t done = 0;  // of the whole
    std::vector<std::byte> rest{};
    std::size_t sent = 0;  // of the rest
  };
  struct Moved {
    int error = 0;  // of what was left undone
    std::size_t bytes = 0;
  };

  DataStream(Loops loops, StpSocket socket, Note note);
  Result<void> watch();
  void ready();
  void serve_readers();
  void serve_writers();
  Moved receive(std::size_t most);
  Moved send(ConstBytes bytes);
  template <class Queue, class Item>
  bool put_off(Queue& queue, Item item);
  void give_up(std::uint64_t id, int error);
  void expire();
  void look_at_deadlines();
  void look_at_drain(const std::shared_ptr<Request>& request, Clock::time_point until, std::chrono::milliseconds span);
  int fail_words(int error);
  int fail_words(int error, std::string words);
  void look_for_break();
  void shut_down();
  std::vector<std::shared_ptr<Waker>> take_wakers();
  std::vector<std::shared_ptr<Waker>> no_more_writers();

  const Loops loops_;
  const Note note_;
  mutable std::mutex mutex_;
  StpSocket socket_;
  int ended_ = 0;  // what end() said
  int broke_ = 0;  // the first error of the socket: nothing is sent after it
  std::string why_;  // its words
  int watched_[2] = {-1, -1};
  std::deque<Reader> readers_;
  std::deque<Writer> writers_;
  std::size_t kept_ = 0;  // bytes of writers_
  std::uint64_t next_id_ = 1;
  bool ends_sending_ = false;
  bool timer_runs_ = false;
  std::chrono::milliseconds timeout_{0};
  std::vector<std::pair<const void*, std::shared_ptr<Waker>>> wakers_;
  std::uint64_t read_ = 0, written_ = 0;
  std::uint64_t arrived_ = 0;  // of those written: known to be in the memory of the peer's host
};

}  // namespace stp::view
