#include "tools/bench_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace stp::tools {
namespace {

TEST(BenchReport, MedianIsTheMiddleAndBetweenTwoMiddles) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({5}), 5);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({9, 1, 5, 7}), 6);
}

TEST(BenchReport, PercentileIsTheNearestRank) {
  std::vector<double> hundred;
  for (int i = 100; i > 0; --i) hundred.push_back(i);
  EXPECT_EQ(percentile(hundred, 50), 50);
  EXPECT_EQ(percentile(hundred, 99), 99);
  EXPECT_EQ(percentile(hundred, 100), 100);
  EXPECT_EQ(percentile({7}, 99), 7);
}

TEST(BenchReport, RatioIsTakenInsideEachRound) {
  // The machine slows down from round to round; each round says 2, the medians apart from each other as well, but 30 / 20 would not.
  RowSamples samples("stream", "MB/s");
  samples.add(40, 20);
  samples.add(30, 15);
  samples.add(10, 5);
  const BenchRow row = samples.row();
  EXPECT_EQ(row.ours, 30);
  EXPECT_EQ(row.rival, 15);
  EXPECT_EQ(row.ratio, 2);
}

TEST(BenchReport, JsonHasNullWhereThereIsNoRival) {
  RowSamples with("stream", "MB/s"), without("idle CPU", "%");
  with.add(123.456, 246.912);
  without.add(0.25, std::nullopt);
  const auto all = nlohmann::json::parse(bench_json({with.row(), without.row()}));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["row"], "stream");
  EXPECT_EQ(all[0]["unit"], "MB/s");
  EXPECT_DOUBLE_EQ(all[0]["ours"], 123.5);
  EXPECT_DOUBLE_EQ(all[0]["ratio"], 0.5);
  EXPECT_TRUE(all[1]["rival"].is_null());
  EXPECT_TRUE(all[1]["ratio"].is_null());
}

TEST(BenchReport, TableShowsADashWhereThereIsNoRival) {
  RowSamples samples("idle CPU", "% of the machine");
  samples.add(0.25, std::nullopt);
  const std::string table = bench_table({samples.row()});
  EXPECT_NE(table.find("0.25           -       -  % of the machine"), std::string::npos) << table;
}

}  // namespace
}  // namespace stp::tools
