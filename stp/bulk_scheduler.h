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
  void note_consumed(std::uint64_t bytes);
  bool busy() const { return writes_ > 0 || reads_ > 0; }
  bool idle() const { return !busy() && write_queue_.empty() && read_queue_.empty(); }
  Nanos next_deadline() const;

 private:
  static constexpr std::size_t kWriteDepth = 4;
  static constexpr std::size_t kReadDepth = 6;           // more: what was read is hashed before the next read can start
  static constexpr Nanos kMeasure = 20 * kMillisecond;   // over which what is achieved is measured
  static constexpr Nanos kForget = 200 * kMillisecond;   // without news the measure is void
  static constexpr double kPace = 1.15;                  // of what is achieved: lets it grow, and overdrives little
  static constexpr double kLeap = 2;
  static constexpr int kUnpacedWindows = 3;
  static constexpr Nanos kBurst = 500 * kMicrosecond;    // a late write may be made up for by so much

  void start_writes();
  void start_reads();
  bool paced() const { return rate_ > 0 && core_.now - measured_at_ < kForget; }

  Core& core_;
  std::deque<std::shared_ptr<SendStream>> write_queue_;
  std::deque<std::shared_ptr<ReceiveStream>> read_queue_;
  std::size_t writes_ = 0;
  std::size_t reads_ = 0;
  std::uint64_t consumed_ = 0;  // since measured_at_
  Nanos measured_at_ = 0;
  bool held_back_ = false;      // since then a write had to wait for the device or for its pace
  int windows_ = 0;             // held back one after the other
  double pace_ = kPace;
  double rate_ = 0;             // bytes a nanosecond; 0 = not known
  Nanos next_write_ = 0;
};

}  // namespace stp
