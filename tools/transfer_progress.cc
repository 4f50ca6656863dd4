#include "tools/transfer_progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace stp::ftp {

namespace {

unsigned terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void print_json(const nlohmann::ordered_json& line) {
  fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
}

}  // namespace

std::string size_text(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string duration_text(std::chrono::seconds time) {
  const auto s = time.count();
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60) : fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string progress_line(const std::string& name, std::uint64_t done, std::uint64_t size, std::uint64_t rate, unsigned columns) {
  const double share = size == 0 ? 1.0 : std::min(1.0, static_cast<double>(done) / static_cast<double>(size));
  const std::string left = rate == 0 ? "-:--" : duration_text(std::chrono::seconds((size - std::min(done, size)) / rate));
  const std::string figures = fmt::format(" {:3.0f}%  {} of {}  {}/s  {} left", share * 100, size_text(done), size_text(size), size_text(rate), left);
  const std::size_t room = columns > figures.size() + 1 ? columns - figures.size() - 1 : 0;
  const std::size_t bar = room >= 20 ? std::min<std::size_t>(room / 2, 24) : 0;
  const std::size_t name_room = room - bar - (bar > 0 ? 3 : 0);
  std::string line = name.substr(0, name_room);
  line.resize(name_room, ' ');
  if (bar > 0) {
    const auto filled = static_cast<std::size_t>(share * static_cast<double>(bar));
    line += " [" + std::string(filled, '#') + std::string(bar - filled, '.') + "]";
  }
  return line + figures;
}

void TransferProgress::begin_job(std::size_t files, std::uint64_t bytes) {
  files_ = files;
  files_over_ = 0;
  job_size_ = bytes;
  job_done_ = job_skipped_ = 0;
  job_began_ = drawn_ = Clock::now();
}

void TransferProgress::begin_file(const std::string& name, std::uint64_t size, std::uint64_t resumed_at) {
  name_ = printable(name);
  size_ = size;
  done_ = resumed_at;
  job_done_ += resumed_at;
  job_skipped_ += resumed_at;
  file_began_ = Clock::now();
  if (style_ == ProgressStyle::kJson)
    print_json({{"event", "file"}, {"name", name}, {"size", size}, {"resumed_at", resumed_at}});
}

std::uint64_t TransferProgress::rate(Clock::time_point now) const {
  const double seconds = std::chrono::duration<double>(now - job_began_).count();
  return seconds < 0.05 ? 0 : static_cast<std::uint64_t>(static_cast<double>(job_done_ - job_skipped_) / seconds);
}

void TransferProgress::advance(std::uint64_t bytes) {
  done_ += bytes;
  job_done_ += bytes;
  if (style_ == ProgressStyle::kNone) return;
  const auto now = Clock::now();
  const auto interval = style_ == ProgressStyle::kJson ? std::chrono::milliseconds(1000) : std::chrono::milliseconds(100);
  if (now - drawn_ < interval) return;
  drawn_ = now;
  draw(now);
}

void TransferProgress::draw(Clock::time_point now) {
  if (style_ == ProgressStyle::kJson)
    return print_json({{"event", "progress"}, {"name", name_}, {"bytes", done_}, {"size", size_}, {"job_bytes", job_done_}, {"job_size", job_size_},
                       {"rate", rate(now)}});
  // Several files: the file as a share in the name, the job as the bar.
  const std::string name = files_ > 1 ? fmt::format("{}/{} {:3}% {}", files_over_ + 1, files_, size_ == 0 ? 100 : done_ * 100 / size_, name_) : name_;
  fmt::print(stderr, "\r{}\x1b[K", progress_line(name, job_done_, std::max(job_size_, job_done_), rate(now), terminal_columns()));
  std::fflush(stderr);
  line_shown_ = true;
}

void TransferProgress::clear() {
  if (std::exchange(line_shown_, false)) fmt::print(stderr, "\r\x1b[K");
}

void TransferProgress::file_done(const std::string& name, std::uint64_t size, const Digest& digest) {
  ++files_over_;
  const auto now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - file_began_).count();
  if (style_ == ProgressStyle::kJson)
    print_json({{"event", "done"}, {"name", name}, {"size", size}, {"sha256", to_hex(digest)}, {"seconds", seconds}});
  if (style_ != ProgressStyle::kTerminal || files_ > 1) return;
  clear();
  fmt::print(stderr, "{}: {} in {:.1f} s, {}/s, verified\n", printable(name), size_text(size), seconds, size_text(rate(now)));
}

void TransferProgress::file_failed(const std::string& name, const Failure& why) {
  ++files_over_;
  if (style_ == ProgressStyle::kJson)
    print_json({{"event", "failed"}, {"name", name}, {"status", exit_status(why.code)}, {"text", why.text}});
  clear();
  fmt::print(stderr, "stp-ftp: {}\n", why.text);
}

void TransferProgress::end_job() {
  clear();
  if (style_ != ProgressStyle::kTerminal || files_ < 2) return;
  const auto now = Clock::now();
  fmt::print(stderr, "{} of {} files, {}, {}/s\n", files_over_, files_, size_text(job_done_), size_text(rate(now)));
}

}  // namespace stp::ftp
