// How transfers go on, for whoever watches: a line with bar, rate and time left on a terminal (standard error), or JSON lines on standard
// output, or nothing.
//
// JSON lines: {"event":"file","name","size","resumed_at"}, {"event":"progress","name","bytes","size","job_bytes","job_size","rate"} at most once a second,
// {"event":"done","name","size","sha256","seconds"}, {"event":"failed","name","status","text"}. Sizes in bytes, rate in bytes a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tools/ftp_client.h"

namespace stp::ftp {

enum class ProgressStyle { kNone, kTerminal, kJson };

// "1.4 GiB", "312 B".
std::string size_text(std::uint64_t bytes);
// "0:07", "1:02:03".
std::string duration_text(std::chrono::seconds time);
// The line for a terminal of `columns`, without colours or line end. Rate 0: unknown.
std::string progress_line(const std::string& name, std::uint64_t done, std::uint64_t size, std::uint64_t rate, unsigned columns);

class TransferProgress : public TransferObserver {
 public:
  explicit TransferProgress(ProgressStyle style) : style_(style) {}
  void begin_job(std::size_t files, std::uint64_t bytes) override;
  void begin_file(const std::string& name, std::uint64_t size, std::uint64_t resumed_at) override;
  void advance(std::uint64_t bytes) override;
  void file_done(const std::string& name, std::uint64_t size, const Digest& digest) override;
  void file_failed(const std::string& name, const Failure& why) override;
  void end_job() override;

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now);
  void clear();
  std::uint64_t rate(Clock::time_point now) const;

  const ProgressStyle style_;
  std::string name_;
  std::uint64_t size_ = 0, done_ = 0;
  std::uint64_t job_size_ = 0, job_done_ = 0, job_skipped_ = 0;
  std::size_t files_ = 0, files_over_ = 0;
  Clock::time_point job_began_, file_began_, drawn_;
  bool line_shown_ = false;
};

}  // namespace stp::ftp
