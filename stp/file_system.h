// Which file system a file lies on, and whether all its users are processes of one kernel.
#pragma once

#include <string>

namespace stp {

struct FileSystem {
  std::string name;  // "ext4", "nfs", ...; the magic number in hexadecimal where it is not known
  // NFS, SMB, FUSE, 9p, cluster file systems; also what is not known, because mapped storages and locks must not be
  // trusted to it. An overlay counts as local.
  bool network = false;
};

FileSystem file_system_of(int fd);

}  // namespace stp
