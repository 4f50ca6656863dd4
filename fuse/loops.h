// The two threads that carry conversations on. The first may stand still for as long as an agent does: a call of the library that asks
// the agent waits for its answer, and every other call waits behind it. Deadlines and signals are therefore the second one's.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "hostlib/event_loop.h"

namespace stp::view {

struct Loops {
  std::shared_ptr<EventLoop> calls;  // makes STP calls
  std::shared_ptr<EventLoop> clock;  // makes none, and never waits

  // On the clock. Any thread.
  void later(std::chrono::milliseconds span, EventLoop::Task task) const {
    clock->post([to = clock.get(), span, task = std::move(task)]() mutable { to->after(span, std::move(task)); });
  }
};

}  // namespace stp::view
