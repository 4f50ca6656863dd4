// The one STP runtime of the process: joins when first needed, holds the lock over engine and descriptor table, and ends
// with the process. Made by the first STP call, never destroyed.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "hostlib/descriptor_table.h"
#include "hostlib/host.h"
#include "hostlib/host_options.h"
#include "hostlib/program_options.h"
#include "stp/engine.h"

namespace stp::host {

class Runtime final : public EngineEvents {
 public:
  // The calling thread's.
  static Runtime& get();
  // Makes the calling thread one of its own, which joins with these settings instead of the process'. Never destroyed.
  static void make_own(HostSettings settings);

  // The lock over everything here. Not held across any wait.
  std::mutex& mutex() { return mutex_; }

  // The host, joined: joins now if that was not done or failed before, and blocks meanwhile. With the lock, which it lets go while it
  // waits. The pointer is good until the process ends.
  Result<Host*> join(std::unique_lock<std::mutex>& lock);
  // The host if it has joined, else nullptr. With the lock. There is one whenever there is a socket.
  Host* host() { return joined_; }

  ProgramOptions& options() { return options_; }
  DescriptorTable& table() { return table_; }
  // In the child of a fork, at its first call: takes up what it shares with its parent. False where that can not be.
  bool resume_in_child();
  bool ended() const { return ended_; }  // the process ends: calls fail with ENETDOWN

  // After a socket was closed in the engine, and nobody waits for it to drain.
  void forget(Socket& socket) {
    table_.forget_id(socket.id);
    if (joined_ != nullptr) joined_->forget(socket.id);
  }

  void on_ready(SocketId socket, std::uint32_t bits) override;

 private:
  Runtime() = default;
  static Runtime& of_process();
  Result<Host*> start(std::unique_lock<std::mutex>& lock);
  void end();
  static void at_exit();
  static void before_fork();
  static void after_fork_in_parent();
  static void in_child();

  std::mutex mutex_;
  std::condition_variable join_ended_;
  bool joining_ = false;
  std::atomic<std::thread::id> forking_{};  // the thread that holds the lock across its fork
  pid_t may_resume_ = 0;                     // the child that finds everything whole
  bool ended_ = false;
  std::optional<HostSettings> settings_;  // instead of the process'
  std::unique_ptr<Host> starting_;  // owned here from the start, joined or not
  Host* joined_ = nullptr;
  Host* shared_with_child_ = nullptr;       // for the child of a fork
  DescriptorTable table_;
  ProgramOptions options_;
};

}  // namespace stp::host
