// A thread of ours in somebody's process: the program's signals are for the program's threads.
#pragma once

#include <signal.h>

#include <system_error>
#include <thread>

namespace stp::host {

// Starts `body` with all signals blocked. False where the system has no room for one more thread.
template <class Body>
bool start_quiet_thread(std::thread& thread, Body body) {
  sigset_t all, before;
  (void)::sigfillset(&all);
  (void)::pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error&) {
    started = false;
  }
  (void)::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace stp::host
