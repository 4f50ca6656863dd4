// Requests and pollers as libfuse has them. Everything that is sent to the kernel passes the gate, which is shut before libfuse's
// session ends: whoever answers after that, from whichever thread, answers nobody.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

#include "fuse/node.h"

namespace stp::view {

// What the requests of one session share; lives as long as the last of them. Any thread.
class FuseGate {
 public:
  FuseGate() = default;
  FuseGate(const FuseGate&) = delete;
  FuseGate& operator=(const FuseGate&) = delete;

  // Calls `reply` unless shut: true when it was called.
  template <class Reply>
  bool pass(Reply reply) {
    std::shared_lock lock(mutex_);
    if (shut_) return false;
    reply();
    return true;
  }
  void shut() {
    std::unique_lock lock(mutex_);
    shut_ = true;
  }

 private:
  std::shared_mutex mutex_;
  bool shut_ = false;
};

// What `fi->fh` stands for.
struct Handle {
  std::shared_ptr<OpenFile> stream;
  std::shared_ptr<const std::string> text;
  std::vector<Directory::Entry> entries;
  bool listed = false;  // read from its beginning
};

// All open files: those that are open when the mount goes away are released too. Any thread.
class OpenFiles {
 public:
  // A handle is kept from before the kernel hears of it until it releases it.
  Handle* keep(std::unique_ptr<Handle> handle) {
    Handle* const kept = handle.get();
    std::lock_guard lock(mutex_);
    handles_[kept] = std::move(handle);
    return kept;
  }
  std::unique_ptr<Handle> let_go(Handle* kept) {
    std::lock_guard lock(mutex_);
    const auto node = handles_.extract(kept);
    return node.empty() ? nullptr : std::move(node.mapped());
  }
  // Streams have to know.
  void add(const std::shared_ptr<OpenFile>& file) {
    std::lock_guard lock(mutex_);
    files_[file.get()] = file;
  }
  void release(const std::shared_ptr<OpenFile>& file) {
    {
      std::lock_guard lock(mutex_);
      if (files_.erase(file.get()) == 0) return;
    }
    file->release();
  }
  void release_all() {
    std::map<OpenFile*, std::shared_ptr<OpenFile>> files;
    {
      std::lock_guard lock(mutex_);
      files.swap(files_);
    }
    for (const auto& [_, file] : files) file->release();
  }

 private:
  std::mutex mutex_;
  std::map<OpenFile*, std::shared_ptr<OpenFile>> files_;
  std::unordered_map<Handle*, std::unique_ptr<Handle>> handles_;
};

class FuseRequest final : public OpenRequest, public std::enable_shared_from_this<FuseRequest> {
 public:
  FuseRequest(fuse_req_t request, std::shared_ptr<FuseGate> gate, std::shared_ptr<OpenFiles> files = nullptr);
  ~FuseRequest() override;

  // Answers with whatever libfuse has for it; `send` returns what fuse_reply_* does. False: was answered before, or the kernel did not take it.
  template <class Send>
  bool answer(Send send) {
    std::lock_guard lock(mutex_);
    if (answered_) return false;
    answered_ = true;
    forget_interrupts();
    int code = ECONNABORTED;
    gate_->pass([&] { code = send(request_); });
    return code == 0;
  }

  Caller caller() const override { return caller_; }
  using Request::data;
  void error(int code) override;
  void data(std::span<const iovec> parts) override;
  void written(std::size_t bytes) override;
  bool opened(std::shared_ptr<OpenFile> file) override;
  bool on_interrupt(std::function<void()> interrupted) override;

 private:
  static void hit(fuse_req_t request, void* watched);
  void forget_interrupts();
  const fuse_req_t request_;
  const std::shared_ptr<FuseGate> gate_;
  const std::shared_ptr<OpenFiles> files_;
  const Caller caller_;
  std::mutex mutex_;  // held while it is answered: request_ is gone afterwards
  bool answered_ = false;
  std::uintptr_t watched_ = 0;  // 0: not
  std::function<void()> interrupted_;
};

// Tells the kernel what it has not asked for, to poll again for one, from a thread of its own: told from within a handler, it would wait
// for the handler.
class Wakers {
 public:
  using Work = std::function<void()>;
  Wakers() : state_(std::make_shared<State>()) {}
  ~Wakers() {
    while (!stop(std::chrono::seconds(1))) continue;
  }
  Wakers(const Wakers&) = delete;
  Wakers& operator=(const Wakers&) = delete;
  bool start();
  // False: what is being told still waits for an answer to the kernel. To be called again then.
  bool stop(std::chrono::milliseconds patience);
  // Null for a null handle. Takes the handle over.
  std::shared_ptr<Waker> make(fuse_pollhandle* handle);
  // Has its work done on that thread; until stop(). Outlives this. Any thread, any time.
  std::function<void(Work work)> runner() const;

 private:
  class Poller;
  struct State {
    std::mutex mutex;
    std::condition_variable news, ended;
    std::deque<Work> queue;
    bool stopping = false, running = false;
    void add(Work work);
  };
  static void run(const std::shared_ptr<State>& state);
  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace stp::view
