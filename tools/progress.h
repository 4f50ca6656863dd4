// A line on a terminal that says how far something is: "formatting  42 %  430 of 1024 MiB  0.7 GiB/s". Nothing when
// standard error is not a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace stp::tools {

class ProgressLine {
 public:
  explicit ProgressLine(std::string what);
  ~ProgressLine();  // ends the line
  void show(std::uint64_t done_bytes, std::uint64_t total_bytes);
  void text(const std::string& text);

 private:
  std::string what_;
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point begin_, last_;
};

}  // namespace stp::tools
