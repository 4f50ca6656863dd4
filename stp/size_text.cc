#include "stp/size_text.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>

#include "stp/names.h"

namespace stp {
namespace {
constexpr std::string_view kUnits = "kmgt";
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto bad = [text] { return fail(EINVAL, fmt::format("\"{}\" is not a size: write a number with K, M, G or T behind it, as in 64M", text)); };
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return bad();
  std::string unit = fold_name(std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end)));
  if (unit.empty() || unit == "b") return number;
  const auto power = kUnits.find(unit[0]);
  const std::string rest = unit.substr(1);
  if (power == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib")) return bad();
  const unsigned shift = static_cast<unsigned>(power + 1) * 10;
  if (number > (UINT64_MAX >> shift)) return bad();
  return number << shift;
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::string_view kNames[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(kNames)) {
    value /= 1024;
    ++unit;
  }
  if (value == static_cast<double>(static_cast<std::uint64_t>(value))) return fmt::format("{:.0f} {}", value, kNames[unit]);
  return fmt::format("{:.1f} {}", value, kNames[unit]);
}

}  // namespace stp
