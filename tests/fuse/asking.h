// A request as a test makes it: keeps its answer, and waits for it.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "fuse/node.h"

namespace stp::view::test {

class Asking final : public OpenRequest {
 public:
  static constexpr std::chrono::seconds kLongest{30};
  static constexpr int kNoAnswer = -1;

  explicit Asking(uid_t user = 0) : user_(user) {}

  // The errno, 0 when it went well; waits for it.
  int result() {
    std::unique_lock lock(mutex_);
    (void)news_.wait_for(lock, kLongest, [this] { return answered_; });
    return answered_ ? error_ : kNoAnswer;
  }
  bool answered() {
    std::lock_guard lock(mutex_);
    return answered_;
  }
  // After result().
  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::string text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  std::size_t count() const { return count_; }
  const std::shared_ptr<OpenFile>& file() const { return file_; }

  void interrupt() {
    std::function<void()> interrupted;
    {
      std::lock_guard lock(mutex_);
      was_interrupted_ = true;
      interrupted.swap(interrupted_);
    }
    if (interrupted) interrupted();
  }

  Caller caller() const override { return {.uid = user_, .gid = user_, .pid = 1}; }
  using Request::data;
  void error(int code) override { answer(code); }
  void data(std::span<const iovec> parts) override {
    std::vector<std::byte> all;
    for (const iovec& part : parts)
      all.insert(all.end(), static_cast<std::byte*>(part.iov_base), static_cast<std::byte*>(part.iov_base) + part.iov_len);
    answer(0, std::move(all));
  }
  void written(std::size_t bytes) override { answer(0, {}, bytes); }
  bool opened(std::shared_ptr<OpenFile> file) override {
    answer(0, {}, 0, std::move(file));
    return true;
  }
  bool on_interrupt(std::function<void()> interrupted) override {
    std::lock_guard lock(mutex_);
    if (was_interrupted_) return false;
    interrupted_ = std::move(interrupted);
    return true;
  }

 private:
  void answer(int code, std::vector<std::byte> bytes = {}, std::size_t count = 0, std::shared_ptr<OpenFile> file = nullptr) {
    std::lock_guard lock(mutex_);
    if (answered_) return;
    answered_ = true;
    error_ = code;
    bytes_ = std::move(bytes);
    count_ = count;
    file_ = std::move(file);
    interrupted_ = nullptr;
    news_.notify_all();
  }
  const uid_t user_;
  std::mutex mutex_;
  std::condition_variable news_;
  bool answered_ = false, was_interrupted_ = false;
  int error_ = 0;
  std::vector<std::byte> bytes_;
  std::size_t count_ = 0;
  std::shared_ptr<OpenFile> file_;
  std::function<void()> interrupted_;
};

class Waking final : public Waker {
 public:
  void wake() override {
    std::lock_guard lock(mutex_);
    woken_ = true;
    news_.notify_all();
  }
  bool woken_within(std::chrono::milliseconds span) {
    std::unique_lock lock(mutex_);
    return news_.wait_for(lock, span, [this] { return woken_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable news_;
  bool woken_ = false;
};

}  // namespace stp::view::test
