// How the threads of a session take the kernel's requests.
//
// One thread at a time waits for the next request, the others for their turn. It keeps its turn while it answers what takes no longer
// than waking another thread, and then looks for the next request for a moment before it sleeps: a program that asks one thing after
// the other, as `find` does, is served by one thread that is awake. What moves much data gives the turn to the next thread first.
#pragma once

#include <semaphore.h>
#include <sys/types.h>

#include <cstddef>

#include "stp/spin.h"

namespace stp::view {

class Receiver {
 public:
  // Of the looking. Nobody looks for long who finds nothing (stp/spin.h).
  static constexpr Nanos kLongestSpin = 100 * kMicrosecond;

  Receiver() { begin(); }
  ~Receiver() { (void)::sem_destroy(&turn_); }
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  // As read(2) of `device`, by whose turn it is. Threads may be cancelled in it.
  ssize_t read(int device, void* room, std::size_t size);
  // The threads are gone, one of them with the turn.
  void begin_again() {
    (void)::sem_destroy(&turn_);
    begin();
  }

 private:
  void begin() { (void)::sem_init(&turn_, 0, 1); }
  sem_t turn_;  // not std::binary_semaphore, in which nobody is cancelled
  Spin spin_;   // of whose turn it is
};

}  // namespace stp::view
