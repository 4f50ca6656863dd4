#include "tests/sim/sim_medium.h"

namespace stp::sim {

SimMedium::~SimMedium() {
  if (!dead_) die(SimStorage::Death::kProcess);
}

void SimMedium::submit(const IoRequest& request) {
  if (dead_) return;
  ++outstanding_;
  ++submitted_;
  unflushed_.push_back(request);
}

void SimMedium::flush() {
  if (dead_) return;
  for (const IoRequest& request : unflushed_) {
    if (tap_ != nullptr) tap_->starts(*this);
    if (cut_off_) break;
    storage_.submit(*this, request);
    if (tap_ != nullptr) tap_->started(*this, request.token);
  }
  unflushed_.clear();
}

std::size_t SimMedium::reap(std::span<IoCompletion> out) {
  std::size_t n = 0;
  while (n < out.size() && !done_.empty()) {
    out[n++] = done_.front();
    done_.pop_front();
  }
  outstanding_ -= n;
  return n;
}

void SimMedium::wait(Nanos, Nanos) { world_.fail("core waits", "Medium::wait was called from inside a step"); }

void SimMedium::die(SimStorage::Death death) {
  dead_ = true;
  unflushed_.clear();
  done_.clear();
  storage_.orphan(*this, death);
}

void SimMedium::completed(const IoCompletion& completion) {
  if (tap_ != nullptr) tap_->completes(*this, completion);
  if (cut_off_) return;
  done_.push_back(completion);
  on_completion_();
}

}  // namespace stp::sim
