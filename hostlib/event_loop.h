// One thread that waits for many descriptors and timers at once, and calls who asked for them. STP sockets take part by the descriptors
// of STPgetpollfd.
//
// Everything but post() and stop() belongs to the thread that runs the loop (before it runs: to its maker). A callback may watch, change and
// forget whatever it likes, itself included.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "hostlib/unique_fd.h"
#include "stp/error.h"

namespace stp {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Watcher = std::function<void(std::uint32_t events)>;  // EPOLLIN and so on
  using Task = std::function<void()>;

  static Result<std::unique_ptr<EventLoop>> make();

  // `events` as in epoll_ctl(2), EPOLLET included. The descriptor stays the caller's, who forgets it before closing it. False with
  // errno: no room for one more.
  bool watch(int fd, std::uint32_t events, Watcher watcher);
  void change(int fd, std::uint32_t events);  // no effect when it is so already
  void forget(int fd);
  void after(std::chrono::milliseconds span, Task task);
  void soon(Task task);  // in this thread, after what is ready now
  // Any thread, also while the loop does not run yet.
  void post(Task task);

  void run();   // until stop()
  void stop();  // any thread
  // After run(): drops all that was still to come, and from then on what is posted. For a loop that is held by what it would do.
  void let_go();

 private:
  EventLoop() = default;
  void call(std::uint64_t id, std::uint32_t events);
  void run_posted();
  int wait_ms() const;

  struct Entry {
    int fd = -1;
    std::uint32_t events = 0;
    std::shared_ptr<Watcher> watcher;
  };
  UniqueFd epoll_, bell_;
  std::uint64_t next_id_ = 1;  // never used again: an event of a descriptor that was forgotten finds nobody
  std::unordered_map<std::uint64_t, Entry> entries_;
  std::unordered_map<int, std::uint64_t> id_of_fd_;
  std::multimap<Clock::time_point, Task> timers_;
  std::vector<Task> soon_;
  std::mutex mutex_;
  std::vector<Task> posted_;
  bool dropping_ = false;
  bool stopped_ = false;
};

}  // namespace stp
