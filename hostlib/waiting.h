// How a thread of the program waits for sockets, and who moves things on meanwhile. Embedded, the waiting threads drive the engine
// themselves (driving.h); with an agent they sleep until it, or the program at the other end, wakes them (agent_waiting.h).
//
// All member functions want the runtime's lock held, but for the spin setter.
#pragma once

#include <memory>
#include <mutex>
#include <span>

#include "hostlib/socket.h"

namespace stp::host {

enum class Woken { kReady, kTimeout, kInterrupted };

struct Waiter;       // of driving.cc
struct AgentWaiter;  // of agent_waiting.cc

// One socket that a thread waits for, and what of it. A node of the socket's list while the thread waits.
struct Watch {
  Socket* socket = nullptr;
  std::uint32_t bits = 0;
  Waiter* waiter = nullptr;             // who waits: one of the two
  AgentWaiter* agent_waiter = nullptr;
  Watch* next_here = nullptr;  // of the socket
};

// On the lists of their sockets, and off them.
inline void put_on_lists(std::span<Watch> watches) {
  for (Watch& watch : watches) {
    watch.next_here = watch.socket->watches;
    watch.socket->watches = &watch;
  }
}
inline void take_off_lists(std::span<Watch> watches) {
  for (Watch& watch : watches) {
    for (Watch** at = &watch.socket->watches; *at != nullptr; at = &(*at)->next_here) {
      if (*at != &watch) continue;
      *at = watch.next_here;
      break;
    }
  }
}

class Waiting {
 public:
  virtual ~Waiting() = default;

  // Waits until any of `bits` may have become true of `socket`, the socket was closed by its program, or `deadline`. Spurious
  // returns of kReady are possible: look again. socket nullptr: until something of the group or the host may have changed.
  virtual Woken wait(std::unique_lock<std::mutex>& lock, Socket* socket, std::uint32_t bits, Nanos deadline) = 0;

  // The same for any of several sockets; any signal handler that runs ends it, as it ends poll(2).
  virtual Woken wait_any(std::unique_lock<std::mutex>& lock, std::span<Watch> watches, Nanos deadline) = 0;

  // For a thread that sleeps elsewhere meanwhile: `bell` (an eventfd) is written when any of `watches` may have become true. Made
  // and destroyed with the lock held.
  class Bystander {
   public:
    virtual ~Bystander() = default;
  };
  virtual std::unique_ptr<Bystander> stand_by(std::span<Watch> watches, int bell) = 0;

  // After a call that queued something, and before a look that should be fresh.
  // `keep`: a write that is wanted promptly may wait for the caller's carry_out(), without the lock; else it is let go.
  virtual void step(Nanos now, bool keep = false) = 0;
  virtual bool keeps() const = 0;
  virtual void carry_out() = 0;
  virtual void let_go() = 0;
  // The same, unless one was made within the last moments and nothing waits for it: for calls that only give back credit.
  virtual void step_soon(Nanos now, std::uint64_t bytes) = 0;

  // Some of `bits` may have become true of the socket, or its program closed it: wakes who waits for that.
  virtual void ready(Socket& socket, std::uint32_t bits) = 0;
  virtual void set_spin(Nanos spin) = 0;
  // The process ends: threads of the program that wait, or come to wait, stay where they are for good, except the calling one.
  virtual void park_all_others() = 0;
};

}  // namespace stp::host
