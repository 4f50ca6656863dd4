// A directory tree that paths from strangers cannot leave: every path is resolved below its root by the kernel (openat2 with
// RESOLVE_BENEATH), so neither "..", nor absolute paths, nor symbolic links, nor a race between looking and opening lead out.
// Where the kernel has no openat2 the path is walked component by component and no symbolic link is followed at all.
//
// Thread-safe: the object holds one descriptor and never changes. Paths are relative, "a/b"; "" is the root itself.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hostlib/unique_fd.h"
#include "tools/failure.h"

namespace stp {

enum class FileKind : std::uint8_t { kFile = 1, kDirectory = 2, kLink = 3, kOther = 4 };

// What a listing says about a name. A symbolic link that leads to something inside the root is listed as what it leads to.
struct FileEntry {
  std::string name;
  FileKind kind = FileKind::kOther;
  std::uint32_t mode = 0;  // permission bits
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;  // since 1970; saturates
  bool through_link = false;  // the name is a symbolic link; the rest describes what it leads to
  bool operator==(const FileEntry&) const = default;
};

FileEntry entry_of(std::string name, const struct stat& status);

// "a/b/c": no empty, "." or ".." component, no NUL, at most 4095 bytes, 255 a component. "" is valid.
bool valid_relative_path(std::string_view path);
// One component of such a path: safe as a name in a local directory.
bool valid_file_name(std::string_view name);

class RootedFiles {
 public:
  static Outcome<RootedFiles> open(const std::string& directory);

  // For tests: walk component by component even where the kernel has openat2.
  void avoid_openat2() { use_openat2_ = false; }

  // Regular files only: anything else is kWrongKind, and never blocks.
  Outcome<UniqueFd> open_for_reading(std::string_view path, struct stat* status) const;
  Outcome<UniqueFd> open_directory(std::string_view path) const;

  // The directory that holds `path`, and the last component. The root itself has none: kRefused.
  struct Place {
    UniqueFd directory;
    std::string name;
  };
  Outcome<Place> open_parent(std::string_view path) const;

  Outcome<FileEntry> stat(std::string_view path) const;
  Outcome<std::vector<FileEntry>> list(std::string_view path) const;  // sorted by name
  // An existing directory is kExists unless exist_ok.
  Outcome<void> make_directory(std::string_view path, std::uint32_t mode, bool exist_ok) const;
  Outcome<void> remove_directory(std::string_view path) const;
  Outcome<void> remove_file(std::string_view path) const;
  // Never replaces: an existing `to` is kExists.
  Outcome<void> rename(std::string_view from, std::string_view to) const;

 private:
  explicit RootedFiles(UniqueFd root) : root_(std::move(root)) {}
  // The descriptor, or -1 and errno.
  int open_below(const std::string& path, int flags) const;
  int walk_below(const std::string& path, int flags) const;

  UniqueFd root_;
  bool use_openat2_ = true;
};

}  // namespace stp
