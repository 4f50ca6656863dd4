// The threads on which nodes may wait for the storage or the agent. Whoever asked is told when that takes too long, and the threads
// are not many: when the storage hangs, they hang, and everybody else's question ends at its deadline all the same.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stp/timing.h"

namespace stp::view {

class Workers {
 public:
  // `deadline` counts from run().
  explicit Workers(Nanos deadline) : state_(std::make_shared<State>()), deadline_(deadline) {}
  ~Workers() { stop(0); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Starts the threads; after the process has become a daemon. False: the system has no room for them.
  bool start(unsigned threads);
  // Any thread. `work` on one of the threads; `late`, from another, when it has not ended in time. One that has not begun by then is
  // not begun any more.
  void run(std::function<void()> work, std::function<void()> late);
  // Waits for what runs, so long; what hangs then is left behind. False: something was.
  bool stop(Nanos patience);

 private:
  struct Job {
    std::function<void()> work, late;
    Nanos until = 0;
    bool over = false;
  };
  // Outlives a thread that hangs.
  struct State {
    std::mutex mutex;
    std::condition_variable queued, timed, ended;
    std::deque<std::shared_ptr<Job>> queue;
    std::deque<std::shared_ptr<Job>> pending;  // by `until`: all have the same deadline
    bool stopping = false;
    unsigned running = 0;
  };
  static void work(const std::shared_ptr<State>& state);
  static void watch(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
  const Nanos deadline_;
  std::vector<std::thread> threads_;
};

}  // namespace stp::view
