// The result of `stp bench`: rows of ours beside a rival's, as a table or as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace stp::tools {

struct BenchRow {
  std::string name;
  std::string unit;
  double ours = 0;
  std::optional<double> rival;  // none: the row stands for itself
  std::optional<double> ratio;  // median of the rounds' ratios, not ratio of the medians
};

// Collects one row over several rounds. Ratios are taken inside a round, where both sides saw the same mood of the machine.
class RowSamples {
 public:
  RowSamples(std::string name, std::string unit) : name_(std::move(name)), unit_(std::move(unit)) {}
  void add(double ours, std::optional<double> rival);
  bool empty() const { return ours_.empty(); }
  BenchRow row() const;

 private:
  std::string name_, unit_;
  std::vector<double> ours_, rivals_, ratios_;
};

double median(std::vector<double> values);                     // 0 of nothing
double percentile(std::vector<double> values, double percent);  // 0 of nothing; nearest rank

std::string bench_table(const std::vector<BenchRow>& rows);
std::string bench_json(const std::vector<BenchRow>& rows);  // [{"row", "ours", "rival", "ratio", "unit"}], null where there is none

}  // namespace stp::tools
