// Runs a target over files, and over all files in directories: what was found once is looked at by every test run, with any compiler.
// On standard error the name of each file before it is run, so that the last one is the one that broke it.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/target.h"

int main(int count, char** arguments) {
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < count; ++i) {
    if (!std::filesystem::is_directory(arguments[i])) {
      files.emplace_back(arguments[i]);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(arguments[i]))
      if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  for (const auto& file : files) {
    std::fprintf(stderr, "%s\n", file.c_str());
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
    if (!in) {
      std::fprintf(stderr, "can not be read\n");
      return 1;
    }
    stp::fuzz::run(std::as_bytes(std::span(bytes)));
  }
  std::printf("%zu inputs\n", files.size());
  return files.empty() ? 1 : 0;  // no inputs prove nothing
}
