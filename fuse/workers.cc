#include "fuse/workers.h"

#include <chrono>

#include "hostlib/quiet_thread.h"
#include "stp/system.h"

namespace stp::view {

bool Workers::start(unsigned threads) {
  for (unsigned i = 0; i <= threads; ++i) {
    std::thread thread;
    {
      std::lock_guard lock(state_->mutex);
      ++state_->running;
    }
    const bool started = host::start_quiet_thread(thread, [state = state_, i] {
      if (i == 0)
        watch(state);
      else
        work(state);
      std::lock_guard lock(state->mutex);
      --state->running;
      state->ended.notify_all();
    });
    if (!started) {
      std::lock_guard lock(state_->mutex);
      --state_->running;
      return false;
    }
    threads_.push_back(std::move(thread));
  }
  return true;
}

void Workers::run(std::function<void()> work, std::function<void()> late) {
  auto job = std::make_shared<Job>();
  job->work = std::move(work);
  job->late = std::move(late);
  std::lock_guard lock(state_->mutex);
  job->until = boottime_now() + deadline_;
  state_->queue.push_back(job);
  state_->pending.push_back(std::move(job));
  state_->queued.notify_one();
  if (state_->pending.size() == 1) state_->timed.notify_one();
}

void Workers::work(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->queued.wait(lock, [&] { return state->stopping || !state->queue.empty(); });
    if (state->stopping) return;
    const std::shared_ptr<Job> job = std::move(state->queue.front());
    state->queue.pop_front();
    if (job->over) continue;
    lock.unlock();
    job->work();
    job->work = nullptr;
    lock.lock();
    job->over = true;
    // The watcher sleeps on; it drops this one when its time comes, or when it is the first to look at.
    while (!state->pending.empty() && state->pending.front()->over) state->pending.pop_front();
  }
}

void Workers::watch(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (!state->stopping) {
    if (state->pending.empty()) {
      state->timed.wait(lock, [&] { return state->stopping || !state->pending.empty(); });
      continue;
    }
    const Nanos left = state->pending.front()->until - boottime_now();
    if (left > 0) {
      state->timed.wait_for(lock, std::chrono::nanoseconds(left));
      continue;
    }
    const std::shared_ptr<Job> job = std::move(state->pending.front());
    state->pending.pop_front();
    if (job->over) continue;
    job->over = true;
    lock.unlock();
    job->late();
    lock.lock();
  }
}

bool Workers::stop(Nanos patience) {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->queue.clear();
  state_->queued.notify_all();
  state_->timed.notify_all();
  const bool ended = state_->ended.wait_for(lock, std::chrono::nanoseconds(patience), [&] { return state_->running == 0; });
  lock.unlock();
  for (std::thread& thread : threads_) {
    if (ended)
      thread.join();
    else
      thread.detach();
  }
  threads_.clear();
  return ended;
}

}  // namespace stp::view
