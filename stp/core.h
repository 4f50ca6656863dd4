// What the parts of one engine share. Lives as long as the engine; one thread at a time.
#pragma once

#include <deque>
#include <functional>

#include "stp/buffer_pool.h"
#include "stp/engine.h"
#include "stp/io_queue.h"
#include "stp/timers.h"

namespace stp {

struct Core {
  Core(const EngineConfig& c, Medium& medium, Random& r) : config(c), io(medium), random(r) {}

  EngineConfig config;
  IoQueue io;
  Random& random;
  Timers timers;
  BufferPool buffers;
  // What only the processor has to do with what arrived (a hash): after the requests that are due were handed in, so that the device does
  // not wait for it. Run one by one by Engine::step, which looks for completions in between.
  std::deque<std::function<void()>> computing;
  EngineCounters counters;
  Identity self;           // of this life; slot kNoSlot while not a member
  Nanos now = 0;           // of the step or call that runs
  bool may_write = false;  // member, and the lease is good
  Nanos gate_period = 0;   // between looks at the gates when nothing is awaited

  const Superblock& superblock() const { return config.superblock; }
  const Geometry& geometry() const { return config.superblock.geometry; }
  const Uuid& uuid() const { return config.superblock.uuid; }
};

}  // namespace stp
