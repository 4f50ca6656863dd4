// Where a target keeps its files: in memory, where there is such a place. The target removes it.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/fuzz/target.h"

namespace stp::fuzz {

inline std::string make_scratch_folder() {
  std::error_code ignored;
  const std::filesystem::path memory = "/dev/shm";
  std::string path = ((::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path(ignored)) / "stp-fuzz-XXXXXX").string();
  require(::mkdtemp(path.data()) != nullptr, "there is a place for files");
  return path;
}

}  // namespace stp::fuzz
