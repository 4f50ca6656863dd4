#include "tools/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace stp::tools {

Table::Table(std::vector<std::string> headings) : headings_(std::move(headings)) {
  for (std::string& h : headings_) {
    right_.push_back(h.starts_with('>'));
    if (right_.back()) h.erase(0, 1);
  }
}

void Table::add(std::vector<std::string> row) {
  row.resize(headings_.size());
  rows_.push_back(std::move(row));
}

std::vector<std::string> Table::lines(bool header) const {
  std::vector<std::size_t> width(headings_.size(), 0);
  const auto measure = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  };
  if (header) measure(headings_);
  for (const auto& row : rows_) measure(row);
  std::vector<std::string> out;
  const auto render = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += fmt::format("{}{}", i == 0 ? "" : "  ", right_[i] ? fmt::format("{:>{}}", row[i], width[i]) : fmt::format("{:<{}}", row[i], width[i]));
    line.erase(line.find_last_not_of(' ') + 1);
    out.push_back(std::move(line));
  };
  if (header) render(headings_);
  for (const auto& row : rows_) render(row);
  return out;
}

void Table::print(bool header) const {
  for (const std::string& line : lines(header)) fmt::print("{}\n", line);
}

}  // namespace stp::tools
