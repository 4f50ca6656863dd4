// How the session's thread takes the kernel's requests.
//
// It looks for the next request for a moment before it sleeps: programs that ask one thing after the other, as `find` and `dd` do, are then
// served by a thread that is awake, and wait for no more than their own waking up.
#pragma once

#include <sys/types.h>

#include <cstddef>

#include "stp/spin.h"

namespace stp::view {

// One thread at a time.
class Receiver {
 public:
  // Of the looking. Who finds nothing does not look for long (stp/spin.h).
  static constexpr Nanos kLongestSpin = 100 * kMicrosecond;

  // As read(2) of `device`. The thread may be cancelled in it.
  ssize_t read(int device, void* room, std::size_t size);

 private:
  Spin spin_;
};

}  // namespace stp::view
