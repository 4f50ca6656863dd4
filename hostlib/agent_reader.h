// Reads what describes the storage for programs that look at it and have no access to it themselves (the mount as a file tree). On a
// thread of its own, begun with the first such request: the agent's other threads never wait for these reads. Not faster
// than kMostASecond, however many ask: looking must not take the disk from those who talk.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "stp/block_source.h"
#include "stp/timing.h"

namespace stp::host {

class AgentReader {
 public:
  static constexpr std::uint64_t kMostASecond = 256u << 20;  // bytes
  static constexpr std::uint64_t kAtOnce = 8u << 20;         // bytes after a rest
  struct Wanted {
    std::uint32_t program = 0;
    bool trusted = false;  // it may see everything
    std::uint64_t first = 0;
    std::uint32_t blocks = 0;
  };
  struct Done {
    std::uint32_t program = 0;
    int error = 0;
    std::vector<std::byte> bytes;
  };
  // `done` is called on the reading thread. It must not call back.
  AgentReader(std::shared_ptr<BlockSource> storage, std::function<void(Done)> done);
  ~AgentReader() { (void)stop(0); }
  AgentReader(const AgentReader&) = delete;
  AgentReader& operator=(const AgentReader&) = delete;

  // 0, or why not: EINVAL not such blocks, or too many for one answer; EBUSY the program's last one is not answered yet; EAGAIN no thread.
  int ask(const Wanted& wanted);
  // Waits for the read that is under way, so long. False: it hangs, and its thread is left behind; then the storage may not be destroyed.
  bool stop(Nanos patience);

 private:
  struct State {
    std::shared_ptr<BlockSource> storage;
    std::function<void(Done)> done;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Wanted> queue;
    std::set<std::uint32_t> waiting;  // programs
    bool stopping = false;
    bool ended = true;
  };
  static void run(const std::shared_ptr<State>& state);
  static Done read(BlockSource& storage, const Wanted& wanted);
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace stp::host
