// What happened, in the order in which it did: one file of fixed records, to which every process of a run appends. A record is one write
// that lies within a page, so that SIGKILL leaves all of it or nothing, and the kernel puts the writes of all processes into one order.
//
// Nothing of this directory uses code of the implementation, but the calls of <stp/stp.h>.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace turns {

class Journal {
 public:
  // Seconds of CLOCK_MONOTONIC, words with blanks between, filled up with blanks, and a newline.
  static constexpr std::size_t kRecordBytes = 128;

  explicit Journal(const std::string& path);  // exits with words when it can not be opened
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  void note(const std::string& words) const;
  // The last record that fits, without its time, or an empty string.
  std::string last(const std::function<bool(const std::string&)>& fits) const;

 private:
  int fd_;
};

}  // namespace turns
