#include "hostlib/run_rules.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace stp::run {
namespace {

using Words = std::vector<std::string_view>;

Words words_of(std::string_view line) {
  Words words;
  for (std::size_t at = 0; at < line.size();) {
    const std::size_t begin = line.find_first_not_of(" \t\r", at);
    if (begin == std::string_view::npos) break;
    const std::size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    at = end;
  }
  return words;
}

std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

// False: no list of ports.
bool read_ports(std::string_view text, RunRule& rule) {
  if (text == "*") return true;
  while (true) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const std::string_view one = text.substr(0, comma);
    const std::size_t dash = one.find('-');
    const auto from = port_of(one.substr(0, dash));
    const auto to = dash == std::string_view::npos ? from : port_of(one.substr(dash + 1));
    if (!from || !to || *from > *to) return false;
    rule.ports.emplace_back(*from, *to);
    if (comma == text.size()) return true;
    text.remove_prefix(comma + 1);
  }
}

std::expected<RunRule, std::string> read_rule(const Words& words) {
  RunRule rule;
  std::size_t at = 0;
  const auto take = [&](std::string_view wanted) {
    if (at >= words.size() || words[at] != wanted) return false;
    ++at;
    return true;
  };
  const auto next = [&] { return at < words.size() ? words[at++] : std::string_view("nothing"); };
  const auto wrong = [](std::string_view wanted, std::string_view got) {
    return std::unexpected(std::string(wanted) + " is wanted, not \"" + std::string(got) + "\"");
  };
  if (take("program")) {
    rule.program = next();
    if (at == words.size()) return wrong("\"listen\" after the program's name", "nothing");
  }
  if (!take("listen")) return wrong("\"listen\" or \"program\"", next());
  if (const auto ports = next(); !read_ports(ports, rule)) return wrong("a list of ports as 80,8000-8999, or *,", ports);
  if (take("on")) {
    const auto where = next();
    if (where != "wildcard" && where != "loopback") return wrong("\"wildcard\" or \"loopback\"", where);
    rule.loopback = where == "loopback";
    rule.wildcard = !rule.loopback;
  }
  const auto way = next();
  if (way != "stp" && way != "tcp" && way != "both") return wrong("\"stp\", \"tcp\" or \"both\"", way);
  rule.way = way == "stp" ? Way::kStp : way == "tcp" ? Way::kTcp : Way::kBoth;
  if (at != words.size()) return wrong("the end of the rule", words[at]);
  return rule;
}

}  // namespace

std::expected<RunRules, std::string> RunRules::parse(std::string_view text) {
  RunRules rules;
  int line_number = 1;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\n;"), text.size());
    const std::string_view line = text.substr(0, std::min(end, text.find('#')));
    const bool last_of_line = end < text.size() && text[end] == '\n';
    // A comment goes to the end of its line, also over a ";".
    const std::size_t skip = line.size() < end ? std::min(text.find('\n'), text.size()) : end;
    if (const Words words = words_of(line); !words.empty()) {
      auto rule = read_rule(words);
      if (!rule) return std::unexpected("line " + std::to_string(line_number) + ": " + rule.error());
      rules.rules_.push_back(std::move(*rule));
    }
    if (last_of_line || (skip > end && skip < text.size())) ++line_number;
    text.remove_prefix(std::min(skip + 1, text.size()));
  }
  return rules;
}

Way RunRules::way_of(std::string_view program, std::uint16_t port, bool loopback) const {
  for (const RunRule& rule : rules_) {
    if (!rule.program.empty() && rule.program != program) continue;
    if (loopback ? !rule.loopback : !rule.wildcard) continue;
    const auto holds = [port](const auto& range) { return range.first <= port && port <= range.second; };
    if (rule.ports.empty() || std::ranges::any_of(rule.ports, holds)) return rule.way;
  }
  return loopback ? Way::kTcp : Way::kStp;
}

bool RunRules::some_are(Way way) const {
  return std::ranges::any_of(rules_, [way](const RunRule& rule) { return rule.way == way; });
}

}  // namespace stp::run
