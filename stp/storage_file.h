// The one open file description of a storage, and all descriptors that its media opened beside it. Shared by the
// Storage and its media; the description is closed when the last of them is gone, hence after the last request.
#pragma once

#include <array>
#include <atomic>

namespace stp {

class StorageFile {
 public:
  explicit StorageFile(int fd) : fd_(fd) {}
  ~StorageFile();
  StorageFile(const StorageFile&) = delete;
  StorageFile& operator=(const StorageFile&) = delete;

  int fd() const { return fd_.load(std::memory_order_relaxed); }

  // Descriptors that must go with this one in the child of a fork. The caller still closes them; false when
  // there is no room (kMaxTracked). Any thread.
  bool track(int fd);
  void untrack(int fd);

  // In the child of a fork: closes all of them. Async-signal-safe. What is left of the Storage and its media in that
  // process must not be used any more; destroying it is safe.
  void abandon();
  bool abandoned() const { return abandoned_.load(std::memory_order_relaxed); }

 private:
  static constexpr int kMaxTracked = 64;
  std::atomic<int> fd_;
  std::atomic<bool> abandoned_{false};
  std::array<std::atomic<int>, kMaxTracked> tracked_{};  // descriptor + 1; 0 is an empty place
};

}  // namespace stp
