#include "fuse/ctl_words.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "stp/names.h"

namespace stp::view {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr std::size_t kLongest = 512;
constexpr double kLongestTimeout = 1e6;  // seconds

std::unexpected<Error> no(std::string_view expected) { return fail(EINVAL, fmt::format("ctl: expected {}", expected)); }

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (;;) {
    const auto begin = text.find_first_not_of(kBlanks);
    if (begin == text.npos) return words;
    text.remove_prefix(begin);
    const auto end = std::min(text.find_first_of(kBlanks), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::optional<std::uint16_t> port_of(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

// HOST or HOST.STG, in whatever case.
bool names_a_host(std::string_view text) {
  const std::string name = fold_name(text);
  const auto dot = name.find('.');
  return valid_instance_name(std::string_view(name).substr(0, dot)) && (dot == name.npos || valid_stg_name(std::string_view(name).substr(dot + 1)));
}

Result<CtlCommand> parse_connect(const std::vector<std::string_view>& words) {
  constexpr std::string_view kExpected = "\"connect HOST PORT\" or \"connect HOST!PORT\"";
  if (words.size() != 2 && words.size() != 3) return no(kExpected);
  std::string_view host = words[1], port;
  if (words.size() == 3) {
    port = words[2];
  } else {
    const auto mark = host.rfind('!');
    if (mark == host.npos) return no(kExpected);
    port = host.substr(mark + 1);
    host = host.substr(0, mark);
  }
  const auto number = port_of(port);
  if (!number || *number == 0) return no(kExpected);
  if (!names_a_host(host)) return no("a host's name: a-z, 0-9 and -, at most 63, and maybe a dot and the storage group's, at most 31");
  return ConnectCommand{.to = {.host = std::string(host), .port = *number}};
}

Result<CtlCommand> parse_announce(const std::vector<std::string_view>& words) {
  constexpr std::string_view kExpected = "\"announce PORT\", or \"announce 0\" for a free port";
  if (words.size() == 1) return AnnounceCommand{};
  if (words.size() != 2) return no(kExpected);
  std::string_view port = words[1];
  if (port.starts_with("*!")) port.remove_prefix(2);
  const auto number = port_of(port);
  if (!number) return no(kExpected);
  return AnnounceCommand{.port = *number};
}

Result<CtlCommand> parse_timeout(const std::vector<std::string_view>& words) {
  constexpr std::string_view kExpected = "\"timeout SECONDS\"";
  if (words.size() != 2) return no(kExpected);
  double seconds = 0;
  const auto [end, error] = std::from_chars(words[1].data(), words[1].data() + words[1].size(), seconds);
  if (error != std::errc() || end != words[1].data() + words[1].size() || !(seconds >= 0 && seconds <= kLongestTimeout))
    return no(kExpected);
  return TimeoutCommand{.span = std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds))};
}

}  // namespace

Result<CtlCommand> parse_ctl(std::string_view text) {
  if (text.size() > kLongest) return no("a command of one line");
  const auto words = words_of(text);
  if (words.empty()) return no("a command: connect, announce, hangup, shutdown or timeout");
  if (words[0] == "connect") return parse_connect(words);
  if (words[0] == "announce") return parse_announce(words);
  if (words[0] == "timeout") return parse_timeout(words);
  if (words[0] == "hangup" && words.size() == 1) return HangUpCommand{};
  if (words[0] == "shutdown" && words.size() == 1) return ShutDownCommand{};
  return no("one command: connect, announce, hangup, shutdown or timeout");
}

}  // namespace stp::view
