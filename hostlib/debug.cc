#include "hostlib/debug.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

namespace stp::host {

bool debugging() {
  static const bool on = [] {
    const char* value = std::getenv("STP_DEBUG");
    return value != nullptr && *value != '\0' && std::string_view(value) != "0";
  }();
  return on;
}

void debug_line(std::string_view line) {
  const std::string whole = fmt::format("stp: {}\n", line);
  (void)!::write(STDERR_FILENO, whole.data(), whole.size());  // one write: lines of several threads stay whole
}

}  // namespace stp::host
