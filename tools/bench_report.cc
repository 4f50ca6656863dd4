#include "tools/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace stp::tools {
namespace {

// Four significant digits are more than the machine's noise leaves.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10, 3 - std::floor(std::log10(std::fabs(value))));
  return std::round(value * scale) / scale;
}

std::string figure(std::optional<double> value) {
  if (!value) return "-";
  return *value >= 1000 ? fmt::format("{:.0f}", *value) : fmt::format("{:.4g}", rounded(*value));
}

}  // namespace

void RowSamples::add(double ours, std::optional<double> rival) {
  ours_.push_back(ours);
  if (!rival) return;
  rivals_.push_back(*rival);
  if (*rival > 0) ratios_.push_back(ours / *rival);
}

BenchRow RowSamples::row() const {
  BenchRow row{.name = name_, .unit = unit_, .ours = median(ours_), .rival = {}, .ratio = {}};
  if (!rivals_.empty()) row.rival = median(rivals_);
  if (!ratios_.empty()) row.ratio = median(ratios_);
  return row;
}

double percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
  const std::size_t at = std::clamp<std::size_t>(rank, 1, values.size()) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const double high = percentile(values, 50);
  if (values.size() % 2 != 0) return high;
  std::sort(values.begin(), values.end());
  return (values[values.size() / 2 - 1] + values[values.size() / 2]) / 2;
}

std::string bench_table(const std::vector<BenchRow>& rows) {
  std::size_t width = 3;
  for (const BenchRow& row : rows) width = std::max(width, row.name.size());
  std::string out = fmt::format("{:<{}}  {:>10}  {:>10}  {:>6}  {}\n", "row", width, "ours", "rival", "ratio", "unit");
  for (const BenchRow& row : rows) {
    const std::string ratio = row.ratio ? fmt::format("{:.2f}", *row.ratio) : "-";
    out += fmt::format("{:<{}}  {:>10}  {:>10}  {:>6}  {}\n", row.name, width, figure(row.ours), figure(row.rival), ratio, row.unit);
  }
  return out;
}

std::string bench_json(const std::vector<BenchRow>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const BenchRow& row : rows) {
    nlohmann::ordered_json one;
    one["row"] = row.name;
    one["ours"] = rounded(row.ours);
    one["rival"] = row.rival ? nlohmann::ordered_json(rounded(*row.rival)) : nlohmann::ordered_json(nullptr);
    one["ratio"] = row.ratio ? nlohmann::ordered_json(rounded(*row.ratio)) : nlohmann::ordered_json(nullptr);
    one["unit"] = row.unit;
    all.push_back(one);
  }
  return all.dump(2) + "\n";
}

}  // namespace stp::tools
