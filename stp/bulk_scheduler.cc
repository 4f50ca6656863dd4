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
  // One turn for each: who finds no extent keeps his place for the next time.
  for (std::size_t turns = write_queue_.size(); turns > 0 && writes_ < kDepth; --turns) {
    const auto stream = write_queue_.front();
    write_queue_.pop_front();
    stream->queued_for_write = false;
    if (!stream->wants_write()) continue;
    if (stream->start_write([this] { --writes_; })) {
      ++writes_;
      ++turns;
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
