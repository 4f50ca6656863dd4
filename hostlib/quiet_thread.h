// A thread of ours in somebody's process: the program's signals are for the program's threads.
#pragma once

#include <system_error>
#include <thread>

#include "stp/thread_signals.h"

namespace stp::host {

// Starts `body` with signals blocked, see QuietThreads. False where the system has no room for one more thread.
template <class Body>
bool start_quiet_thread(std::thread& thread, Body body) {
  const QuietThreads quiet;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

}  // namespace stp::host
