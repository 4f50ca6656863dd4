// From what was asked for (names, patterns, directories) to the list of files to transfer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/ftp_client.h"

namespace stp::ftp {

// Told of what is left out: symbolic links to directories, devices, others' partial files.
using Skipped = std::function<void(const std::string& text)>;

// All files below the remote directory `remote`; makes the directories, empty ones too, below `local_path` (which is made as well).
// With `update`, files that are there with the same size and time are left out.
Outcome<std::vector<GetItem>> expand_get_tree(Client& client, const std::string& remote, const std::string& local_path, bool update,
                                              const Skipped& skipped);
// All files below the local directory `local`; makes the directories on the server below `remote`.
Outcome<std::vector<PutItem>> expand_put_tree(Client& client, const std::string& local, const std::string& remote, bool update,
                                              const Skipped& skipped);

// One file: to `local_path`, a path of this process.
Outcome<GetItem> get_item(const std::string& remote, const FileEntry& entry, const std::string& local_path);

// The paths that fit the pattern (its last component may hold * ? [), sorted; kNotFound when none does. Without a pattern: the path itself.
struct RemoteMatch {
  std::string path;
  FileEntry entry;
};
Outcome<std::vector<RemoteMatch>> expand_remote(Client& client, const std::string& path);
Outcome<std::vector<std::string>> expand_local(const std::string& pattern);

// Is it NAME.part or NAME.part.info of a transfer in progress or cut off, going by the other names beside it?
bool is_partial_file(const std::string& name, const std::function<bool(const std::string&)>& is_beside);

}  // namespace stp::ftp
