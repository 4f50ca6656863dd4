// All conversations of a mount, and the threads that carry them on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "fuse/conversation.h"
#include "fuse/loops.h"
#include "stp/error.h"

namespace stp::view {

class Conversations : public std::enable_shared_from_this<Conversations> {
 public:
  static constexpr std::size_t kMost = 16384;
  static constexpr std::size_t kMostOfAUser = 4096;  // root: kMost

  // After the last fork of the program: threads do not outlive one.
  static Result<std::shared_ptr<Conversations>> start();
  // Ends them all, and answers what waits.
  ~Conversations();
  Conversations(const Conversations&) = delete;
  Conversations& operator=(const Conversations&) = delete;

  // A new one. Nothing when there are too many.
  Held make(Owner owner);
  // Nothing when there is none of that number. Numbers are not used again for long.
  std::shared_ptr<Conversation> find(std::uint32_t number) const;
  std::vector<std::shared_ptr<Conversation>> list() const;

  // Is told of each one that has gone, a moment after that: what the kernel does at a close is over then. By the clock.
  using Gone = std::function<void(std::uint32_t number)>;
  void tell_gone(Gone gone);
  static constexpr std::chrono::milliseconds kGoneFor{200};

  // By a conversation whose last file was closed.
  void remove(std::uint32_t number);

 private:
  Conversations() = default;
  bool start_threads();
  void say_gone(std::uint32_t number);
  Loops loops_;
  std::thread calls_, clock_;
  mutable std::mutex mutex_;
  Gone gone_;
  std::uint32_t next_ = 0;
  std::map<std::uint32_t, std::shared_ptr<Conversation>> all_;
  std::map<uid_t, std::size_t> of_user_;
};

}  // namespace stp::view
