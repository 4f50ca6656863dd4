// STP_DEBUG=1: lines on stderr, prefixed "stp: ".
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace stp::host {

bool debugging();
void debug_line(std::string_view line);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (debugging()) debug_line(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace stp::host
