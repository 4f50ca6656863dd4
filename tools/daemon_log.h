// What a daemon says, on standard error: one line an event, with time and level; under a service manager that adds the time itself, with
// the level as its journal reads it.
#pragma once

#include <string_view>

namespace stp {

void start_log(std::string_view program);
// Any thread.
void log_info(std::string_view text);
void log_warning(std::string_view text);
void log_error(std::string_view text);

}  // namespace stp
