#include "stp/bulk_scheduler.h"

#include <algorithm>

namespace stp {

void BulkScheduler::note(const std::shared_ptr<SendStream>& stream) {
  if (stream->queued_for_write || !stream->wants_write()) return;
  stream->queued_for_write = true;
  write_queue_.push_back(stream);
}

void BulkScheduler::note(const std::shared_ptr<ReceiveStream>& stream) {
  if (stream->queued_for_read || !stream->wants_read()) return;
  stream->queued_for_read = true;
  read_queue_.push_back(stream);
}

void BulkScheduler::work() {
  start_reads();
  if (core_.may_write) start_writes();
}

void BulkScheduler::start_writes() {
  // Who finds no extent keeps a place in the line for the next time; a whole line of those ends the round.
  std::size_t fruitless = 0;
  while (!write_queue_.empty() && writes_ < kWriteDepth && fruitless < write_queue_.size()) {
    if (paced() && core_.now < next_write_) {
      held_back_ = true;
      return;
    }
    const auto stream = write_queue_.front();
    write_queue_.pop_front();
    stream->queued_for_write = false;
    if (const std::uint32_t bytes = stream->start_write([this] { --writes_; }); bytes > 0) {
      ++writes_;
      fruitless = 0;
      if (paced())
        next_write_ = std::max(next_write_, core_.now - kBurst) + static_cast<Nanos>(bytes / (pace_ * rate_));
    } else {
      ++fruitless;
    }
    note(stream);
  }
  if (writes_ == kWriteDepth && !write_queue_.empty()) held_back_ = true;
}

void BulkScheduler::start_reads() {
  while (!read_queue_.empty() && reads_ < kReadDepth) {
    const auto stream = read_queue_.front();
    read_queue_.pop_front();
    stream->queued_for_read = false;
    if (stream->start_read([this] { --reads_; })) ++reads_;
    note(stream);
  }
}

void BulkScheduler::note_consumed(std::uint64_t bytes) {
  const Nanos elapsed = core_.now - measured_at_;
  consumed_ += bytes;
  if (elapsed < kMeasure) return;
  const double rate = static_cast<double>(consumed_) / static_cast<double>(elapsed);
  // Only what the device held back says what it can do; after a silence, or while credit is what is short, nobody is paced.
  // The first windows only fill the pipe; and as long as more speed brought more, the pace leaps.
  windows_ = elapsed > kForget || !held_back_ ? 0 : windows_ + 1;
  if (windows_ <= kUnpacedWindows) {
    rate_ = 0;
  } else {
    pace_ = rate > 1.05 * rate_ ? kLeap : kPace;
    rate_ = std::max(rate, (rate_ + rate) / 2);
  }
  held_back_ = false;
  consumed_ = 0;
  measured_at_ = core_.now;
}

Nanos BulkScheduler::next_deadline() const {
  return !write_queue_.empty() && writes_ < kWriteDepth && paced() ? next_write_ : kNever;
}

}  // namespace stp
