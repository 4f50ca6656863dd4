// Where the listening sockets of an unmodified program go that it binds to 0.0.0.0, :: or a loopback address: to STP, to TCP, or to both.
//
// Rules, one a line (or separated by ";"), the first that fits holds; "#" begins a comment:
//
//   [program NAME] listen PORTS [on wildcard | on loopback] stp | tcp | both
//
// NAME is the program's file name without its folder; PORTS is * or a list as 80,443,8000-8999. Behind the last rule stand
// "listen * on wildcard stp" and "listen * on loopback tcp".
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stp::run {

enum class Way : std::uint8_t { kStp, kTcp, kBoth };

struct RunRule {
  std::string program;  // empty: all
  std::vector<std::pair<std::uint16_t, std::uint16_t>> ports;  // from, to; empty: all
  bool wildcard = true, loopback = true;
  Way way = Way::kStp;
};

class RunRules {
 public:
  // The error says the line and what is wrong with it.
  static std::expected<RunRules, std::string> parse(std::string_view text);
  Way way_of(std::string_view program, std::uint16_t port, bool loopback) const;
  bool some_are(Way way) const;

 private:
  std::vector<RunRule> rules_;
};

}  // namespace stp::run
