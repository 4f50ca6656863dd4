// The command language of stp-ftp: words and the text of a line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/failure.h"

namespace stp::ftp {

using Words = std::vector<std::string>;

// Commands are separated by ';' and line ends, words by blanks; '#' at the start of a word begins a comment. 'single' quotes keep everything, "double"
// quotes everything but \ before " and \; outside of quotes \ keeps the next character. kUsage: a quote that is not closed.
Outcome<std::vector<Words>> parse_commands(std::string_view text);

// Remote paths: `path` seen from `directory` ("" is the root, no leading '/'), without "." and "..". kRefused: it leads above the root.
Outcome<std::string> resolve_path(const std::string& directory, std::string_view path);

// Is `word` a pattern (* ? [)?
bool is_pattern(std::string_view word);
std::string_view base_of(std::string_view path);    // last component, without trailing '/'
std::string_view parent_of(std::string_view path);  // "" where there is none
std::string join_path(std::string_view directory, std::string_view name);

}  // namespace stp::ftp
