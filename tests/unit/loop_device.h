// Block devices for tests, where the machine allows them.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace stp::testing {

// A loop device over a scratch file; empty path() where the machine allows none.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, unsigned sector, const char* more = "") {
    const std::string command = "losetup --find --show --sector-size " + std::to_string(sector) + " " + more + " '" + file + "' 2>/dev/null";
    if (FILE* output = ::popen(command.c_str(), "re"); output != nullptr) {
      char line[128] = {};
      if (std::fgets(line, sizeof line, output) != nullptr) path_ = std::string(line, std::strcspn(line, "\n"));
      ::pclose(output);
    }
  }
  ~LoopDevice() {
    if (path_.empty()) return;
    EXPECT_EQ(std::system(("losetup --detach '" + path_ + "'").c_str()), 0);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace stp::testing

#define STP_NEED_DEVICE(device) \
  if ((device).path().empty()) GTEST_SKIP() << "losetup makes no loop device here (root and /dev/loop-control are needed)"
