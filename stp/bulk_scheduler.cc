#include "stp/bulk_scheduler.h"

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
  while (!write_queue_.empty() && writes_ < kDepth && fruitless < write_queue_.size()) {
    const auto stream = write_queue_.front();
    write_queue_.pop_front();
    stream->queued_for_write = false;
    if (stream->start_write([this] { --writes_; })) {
      ++writes_;
      fruitless = 0;
    } else {
      ++fruitless;
    }
    note(stream);
  }
}

void BulkScheduler::start_reads() {
  while (!read_queue_.empty() && reads_ < kDepth) {
    const auto stream = read_queue_.front();
    read_queue_.pop_front();
    stream->queued_for_read = false;
    if (stream->start_read([this] { --reads_; })) ++reads_;
    note(stream);
  }
}

Nanos BulkScheduler::next_deadline() const { return kNever; }

}  // namespace stp
