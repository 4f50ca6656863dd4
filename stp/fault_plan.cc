#include "stp/fault_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <vector>

namespace stp {
namespace {

struct TimeUnit {
  std::string_view name;
  Nanos nanos;
};
constexpr std::array<TimeUnit, 3> kUnits{{{"us", kMicrosecond}, {"ms", kMillisecond}, {"s", kSecond}}};
constexpr double kLongestSeconds = 3600;

struct Chance {
  std::string_view name;
  double FaultPlan::* field;
};
constexpr std::array<Chance, 6> kChances{{{"eio_read", &FaultPlan::eio_read},
                                          {"eio_write", &FaultPlan::eio_write},
                                          {"torn", &FaultPlan::torn},
                                          {"lost", &FaultPlan::lost},
                                          {"misdirected", &FaultPlan::misdirected},
                                          {"flip", &FaultPlan::flip}}};
struct Span {
  std::string_view name;
  FaultSpan FaultPlan::* field;
};
constexpr std::array<Span, 2> kSpans{{{"delay", &FaultPlan::delay}, {"undo", &FaultPlan::undo}}};
constexpr std::string_view kNames = "delay, eio, eio_read, eio_write, torn, lost, misdirected, undo, flip and seed";

// The number at the front of `text`, which is left with what follows it.
std::optional<double> take_number(std::string_view& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value) || value < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

std::optional<Nanos> take_time(std::string_view& text) {
  const auto number = take_number(text);
  if (!number) return std::nullopt;
  for (const TimeUnit& unit : kUnits) {
    if (!text.starts_with(unit.name)) continue;
    text.remove_prefix(unit.name.size());
    const double nanos = *number * static_cast<double>(unit.nanos);
    if (nanos > kLongestSeconds * static_cast<double>(kSecond)) return std::nullopt;
    return static_cast<Nanos>(nanos);
  }
  return std::nullopt;
}

class Parser {
 public:
  explicit Parser(std::string_view whole) : whole_(whole) {}

  Result<FaultPlan> run() {
    std::size_t from = 0;
    while (from <= whole_.size()) {
      const std::size_t end = std::min(whole_.find(',', from), whole_.size());
      if (auto good = setting(whole_.substr(from, end - from)); !good) return std::unexpected(good.error());
      from = end + 1;
    }
    return plan_;
  }

 private:
  std::unexpected<Error> bad(std::string_view at, std::string_view what) const {
    return fail(EINVAL, fmt::format("\"{}\": {}, at \"{}\" (character {})", whole_, what, at, at.data() - whole_.data() + 1));
  }

  Result<void> setting(std::string_view text) {
    const std::size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    if (equals == std::string_view::npos) return bad(text, "a fault is written NAME=VALUE");
    const std::string_view value = text.substr(equals + 1);
    if (std::ranges::find(seen_, name) != seen_.end()) return bad(name, "this is given twice");
    seen_.emplace_back(name);
    if (name == "seed") return seed(value);
    for (const Span& s : kSpans)
      if (name == s.name) return span(value, plan_.*s.field);
    if (name == "eio") {
      if (plan_.eio_read > 0 || plan_.eio_write > 0) return bad(name, "give eio, or eio_read and eio_write");
      auto good = chance(value, plan_.eio_read);
      plan_.eio_write = plan_.eio_read;
      both_eio_ = true;
      return good;
    }
    if (name.starts_with("eio_") && both_eio_) return bad(name, "give eio, or eio_read and eio_write");
    for (const Chance& c : kChances)
      if (name == c.name) return chance(value, plan_.*c.field);
    return bad(name, fmt::format("there is no such fault; there are {}", kNames));
  }

  Result<void> seed(std::string_view text) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size()) return bad(text, "a seed is a number of at most 64 bits");
    plan_.seed = number;
    return {};
  }

  Result<void> chance(std::string_view text, double& into) const {
    std::string_view rest = text;
    auto value = take_number(rest);
    if (value && rest == "%") {
      *value /= 100;
      rest = {};
    }
    if (!value || !rest.empty() || *value > 1) return bad(text, "a chance is a number from 0 to 1, as 0.001 or 1e-6, or in percent, as 0.1%");
    into = *value;
    return {};
  }

  Result<void> span(std::string_view text, FaultSpan& into) const {
    const std::size_t at = text.find('@');
    if (at == std::string_view::npos) return bad(text, "a time and how often are wanted, as 5ms@1%");
    std::string_view times = text.substr(0, at);
    const auto shortest = take_time(times);
    auto longest = shortest;
    if (shortest && times.starts_with('-')) {
      times.remove_prefix(1);
      longest = take_time(times);
    }
    if (!shortest || !longest || !times.empty() || *longest < *shortest)
      return bad(text, "a time is a number with us, ms or s behind it, at most an hour; or two of them, as 1ms-20ms, the shorter first");
    into.shortest = *shortest;
    into.longest = *longest;
    return chance(text.substr(at + 1), into.chance);
  }

  std::string_view whole_;
  FaultPlan plan_;
  std::vector<std::string> seen_;
  bool both_eio_ = false;
};

std::string time_text(Nanos time) {
  for (auto unit = kUnits.rbegin(); unit != kUnits.rend(); ++unit)
    if (time % unit->nanos == 0 && time != 0) return fmt::format("{}{}", time / unit->nanos, unit->name);
  return fmt::format("{}us", static_cast<double>(time) / static_cast<double>(kMicrosecond));
}

std::string span_text(const FaultSpan& span) {
  return span.shortest == span.longest ? time_text(span.longest) : fmt::format("{}-{}", time_text(span.shortest), time_text(span.longest));
}

}  // namespace

Result<FaultPlan> parse_faults(std::string_view text) { return Parser(text).run(); }

std::string to_string(const FaultPlan& plan) {
  std::string out;
  for (const Span& s : kSpans)
    if (const FaultSpan& span = plan.*s.field; span.chance > 0) out += fmt::format(",{}={}@{}", s.name, span_text(span), span.chance);
  for (const Chance& c : kChances)
    if (plan.*c.field > 0) out += fmt::format(",{}={}", c.name, plan.*c.field);
  if (plan.seed) out += fmt::format(",seed={}", *plan.seed);
  return out.empty() ? out : out.substr(1);
}

}  // namespace stp
