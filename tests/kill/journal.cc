#include "tests/kill/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace turns {
namespace {

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "the journal: %s: %s\n", what, std::strerror(errno));
  std::_Exit(1);
}

}  // namespace

Journal::Journal(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) {
  if (fd_ < 0) give_up(path.c_str());
}

Journal::~Journal() { ::close(fd_); }

void Journal::note(const std::string& words) const {
  timespec now = {};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  std::string record = fmt::format("{}.{:06} {}", now.tv_sec, now.tv_nsec / 1000, words).substr(0, kRecordBytes - 1);
  record.resize(kRecordBytes - 1, ' ');
  record += '\n';
  if (::write(fd_, record.data(), record.size()) != static_cast<ssize_t>(record.size())) give_up("write");
}

std::string Journal::last(const std::function<bool(const std::string&)>& fits) const {
  constexpr std::size_t kAtOnce = 512 * kRecordBytes;
  struct stat status = {};
  if (::fstat(fd_, &status) != 0) give_up("stat");
  std::vector<char> part(kAtOnce);
  for (off_t end = status.st_size; end > 0;) {
    const auto size = static_cast<std::size_t>(std::min<off_t>(end, kAtOnce));
    end -= static_cast<off_t>(size);
    if (::pread(fd_, part.data(), size, end) != static_cast<ssize_t>(size)) give_up("read");
    for (std::size_t at = size; at >= kRecordBytes; at -= kRecordBytes) {
      std::string record(part.data() + at - kRecordBytes, kRecordBytes - 1);
      record.erase(record.find_last_not_of(' ') + 1);
      record.erase(0, record.find(' ') + 1);
      if (fits(record)) return record;
    }
  }
  return {};
}

}  // namespace turns
