#include "tools/ftp_trees.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>

#include "tools/ftp_words.h"

namespace stp::ftp {

namespace {

constexpr std::size_t kMaxFiles = 4'000'000;

bool up_to_date(const FileEntry& source, const FileEntry& copy) {
  return copy.kind == FileKind::kFile && copy.size == source.size && copy.mtime_ns == source.mtime_ns;
}

std::unexpected<Failure> too_many() { return failure(FailureCode::kOther, "too many files for one command; go by subdirectories"); }

}  // namespace

bool is_partial_file(const std::string& name, const std::function<bool(const std::string&)>& is_beside) {
  constexpr std::string_view kPart = ".part", kInfo = ".part.info";
  if (name.size() > kInfo.size() && name.ends_with(kInfo)) return is_beside(name.substr(0, name.size() - 5));
  return name.size() > kPart.size() && name.ends_with(kPart) && is_beside(name + ".info");
}

Outcome<GetItem> get_item(const std::string& remote, const FileEntry& entry, const std::string& local_path) {
  const std::string parent(parent_of(local_path));
  auto directory = RootedFiles::open(parent.empty() ? "." : parent);
  if (!directory) return std::unexpected(directory.error());
  return GetItem{remote, entry, std::make_shared<const RootedFiles>(std::move(*directory)), std::string(base_of(local_path))};
}

Outcome<std::vector<GetItem>> expand_get_tree(Client& client, const std::string& remote, const std::string& local_path, bool update,
                                              const Skipped& skipped) {
  if (::mkdir(local_path.c_str(), 0777) != 0 && errno != EEXIST)
    return file_failure(errno, fmt::format("cannot make directory \"{}\"", printable(local_path)));
  auto opened = RootedFiles::open(local_path);
  if (!opened) return std::unexpected(opened.error());
  // Whatever the server says its names are, the kernel keeps us below this directory.
  const auto local = std::make_shared<const RootedFiles>(std::move(*opened));
  std::vector<GetItem> items;
  std::deque<std::string> directories{""};
  while (!directories.empty()) {
    const std::string below = std::move(directories.front());
    directories.pop_front();
    const auto entries = client.list(below.empty() ? remote : join_path(remote, below));
    if (!entries) return std::unexpected(entries.error());
    const auto is_beside = [&](const std::string& name) { return std::ranges::binary_search(*entries, name, {}, &FileEntry::name); };
    for (const FileEntry& entry : *entries) {
      const std::string path = join_path(below, entry.name);
      if (!valid_relative_path(path)) return failure(FailureCode::kOther, fmt::format("\"{}\" is too long for a path", printable(path)));
      if (items.size() + directories.size() > kMaxFiles) return too_many();
      if (entry.kind == FileKind::kDirectory && !entry.through_link) {
        if (auto made = local->make_directory(path, entry.mode | 0700, true); !made) return std::unexpected(made.error());
        directories.push_back(path);
      } else if (entry.kind == FileKind::kFile && !is_partial_file(entry.name, is_beside)) {
        const auto there = update ? local->stat(path) : failure(FailureCode::kNotFound, "");
        if (!there || !up_to_date(entry, *there)) items.push_back({join_path(remote, path), entry, local, path});
      } else {
        skipped(fmt::format("skipped \"{}\": not a regular file or directory of its own", printable(path)));
      }
    }
  }
  return items;
}

Outcome<std::vector<PutItem>> expand_put_tree(Client& client, const std::string& local, const std::string& remote, bool update,
                                              const Skipped& skipped) {
  std::vector<PutItem> items;
  std::deque<std::string> directories{""};
  while (!directories.empty()) {
    const std::string below = std::move(directories.front());
    directories.pop_front();
    const std::string here = below.empty() ? local : join_path(local, below);
    const auto files = RootedFiles::open(here);
    if (!files) return std::unexpected(files.error());
    struct stat status {};
    const std::uint32_t mode = ::stat(here.c_str(), &status) == 0 ? status.st_mode & 0777 : 0755;
    const std::string there = below.empty() ? remote : join_path(remote, below);
    if (auto made = client.make_directory(there, mode | 0700, true); !made) return std::unexpected(made.error());
    const auto entries = files->list("");
    if (!entries) return std::unexpected(entries.error());
    const auto copies = update ? client.list(there) : std::vector<FileEntry>();
    if (!copies) return std::unexpected(copies.error());
    const auto is_beside = [&](const std::string& name) { return std::ranges::binary_search(*entries, name, {}, &FileEntry::name); };
    for (const FileEntry& entry : *entries) {
      const std::string path = join_path(below, entry.name);
      if (items.size() + directories.size() > kMaxFiles) return too_many();
      if (!valid_relative_path(join_path(remote, path))) return failure(FailureCode::kOther, fmt::format("\"{}\" is too long for a path", printable(path)));
      const bool file = entry.kind == FileKind::kFile || entry.kind == FileKind::kLink;  // a link out of this directory is the user's own
      if (entry.kind == FileKind::kDirectory && !entry.through_link)
        directories.push_back(path);
      else if (file && !is_partial_file(entry.name, is_beside)) {
        const auto copy = std::ranges::lower_bound(*copies, entry.name, {}, &FileEntry::name);
        if (copy == copies->end() || copy->name != entry.name || !up_to_date(entry, *copy))
          items.push_back({join_path(local, path), join_path(remote, path)});
      } else
        skipped(fmt::format("skipped \"{}\": not a regular file or directory of its own", printable(path)));
    }
  }
  return items;
}

Outcome<std::vector<RemoteMatch>> expand_remote(Client& client, const std::string& path) {
  std::vector<RemoteMatch> out;
  const std::string pattern(base_of(path));
  if (!is_pattern(pattern)) {
    auto entry = client.stat(path);
    if (!entry) return std::unexpected(entry.error());
    out.push_back({path, std::move(*entry)});
    return out;
  }
  const std::string directory(parent_of(path));
  auto entries = client.list(directory);
  if (!entries) return std::unexpected(entries.error());
  const auto is_beside = [&](const std::string& name) { return std::ranges::binary_search(*entries, name, {}, &FileEntry::name); };
  for (const FileEntry& entry : *entries)
    if (::fnmatch(pattern.c_str(), entry.name.c_str(), FNM_PERIOD) == 0 && !is_partial_file(entry.name, is_beside))
      out.push_back({join_path(directory, entry.name), entry});
  if (out.empty()) return failure(FailureCode::kNotFound, fmt::format("nothing on the server fits \"{}\"", printable(path)));
  return out;
}

Outcome<std::vector<std::string>> expand_local(const std::string& pattern) {
  if (!is_pattern(pattern) && !pattern.starts_with('~')) return std::vector<std::string>{pattern};
  glob_t found{};
  const int error = ::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
  std::vector<std::string> out;
  for (std::size_t i = 0; error == 0 && i < found.gl_pathc; ++i) out.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (out.empty()) return failure(FailureCode::kNotFound, fmt::format("no local file fits \"{}\"", printable(pattern)));
  return out;
}

}  // namespace stp::ftp
