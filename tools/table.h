// Aligned columns for people, as `ss` prints them.
#pragma once

#include <string>
#include <vector>

namespace stp::tools {

class Table {
 public:
  // A heading that begins with '>' is of a column aligned to the right.
  explicit Table(std::vector<std::string> headings);
  void add(std::vector<std::string> row);
  // The last column is not padded.
  std::vector<std::string> lines(bool header) const;
  // To standard output.
  void print(bool header) const;

 private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace stp::tools
