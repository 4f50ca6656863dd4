// Who may move an extent next: a few writes and a few reads in flight for the whole host, round-robin between sessions. The
// depth is what keeps a device busy; the window of unconsumed bytes is another thing, and larger.
//
// Writes are paced by what the receivers achieve: overdriving a device with writes starves the reads of the same bytes.
#pragma once

#include <deque>
#include <memory>

#include "stp/receive_stream.h"
#include "stp/send_stream.h"

namespace stp {

class BulkScheduler {
 public:
  explicit BulkScheduler(Core& core) : core_(core) {}

  // Tells that the stream may want to move something. Cheap to call too often.
  void note(const std::shared_ptr<SendStream>& stream);
  void note(const std::shared_ptr<ReceiveStream>& stream);
  void work();
  // Bytes that peers confirmed to have in memory: the measure for pacing.
  void note_consumed(std::uint64_t bytes) { consumed_ += bytes; }
  bool busy() const { return writes_ > 0 || reads_ > 0; }
  bool idle() const { return !busy() && write_queue_.empty() && read_queue_.empty(); }
  Nanos next_deadline() const;

 private:
  static constexpr std::size_t kDepth = 4;

  void start_writes();
  void start_reads();

  Core& core_;
  std::deque<std::shared_ptr<SendStream>> write_queue_;
  std::deque<std::shared_ptr<ReceiveStream>> read_queue_;
  std::size_t writes_ = 0;
  std::size_t reads_ = 0;
  std::uint64_t consumed_ = 0;
};

}  // namespace stp
