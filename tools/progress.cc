#include "tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "stp/size_text.h"

namespace stp::tools {

using Clock = std::chrono::steady_clock;

ProgressLine::ProgressLine(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1), begin_(Clock::now()) {}

ProgressLine::~ProgressLine() {
  if (shown_) fmt::print(stderr, "\n");
}

void ProgressLine::show(std::uint64_t done, std::uint64_t total) {
  const auto now = Clock::now();
  if (!terminal_ || total == 0 || (done < total && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  const double seconds = std::max(std::chrono::duration<double>(now - begin_).count(), 0.001);
  const auto rate = static_cast<std::uint64_t>(static_cast<double>(done) / seconds);
  text(fmt::format("{:3} %  {} of {}  {}/s", done * 100 / total, size_text(done / 1048576 * 1048576), size_text(total), size_text(rate)));
}

void ProgressLine::text(const std::string& text) {
  if (!terminal_) return;
  fmt::print(stderr, "\r{}  {}\033[K", what_, text);
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace stp::tools
