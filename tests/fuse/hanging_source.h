// A view's source that answers nobody until it is let go, and then with an error: a storage that hangs.
#pragma once

#include <condition_variable>
#include <mutex>

#include "fuse/source.h"

namespace stp::view::test {

class HangingSource final : public Source {
 public:
  const std::string& title() const override { return title_; }
  Result<std::shared_ptr<BlockSource>> blocks() override {
    std::unique_lock lock(mutex_);
    ++asked_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return answers_; });
    return fail(EIO, "broken");
  }
  Result<std::optional<AgentFacts>> agent() override { return std::nullopt; }
  bool talks() const override { return false; }

  void await_question() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return asked_ > 0; });
  }
  void answer() {
    std::lock_guard lock(mutex_);
    answers_ = true;
    changed_.notify_all();
  }
  int asked() {
    std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  const std::string title_ = "hanging";
  std::mutex mutex_;
  std::condition_variable changed_;
  int asked_ = 0;
  bool answers_ = false;
};

}  // namespace stp::view::test
