// Facts about an open descriptor: probe_storage() for those who have the path open already.
#pragma once

#include "stp/storage.h"

namespace stp {

// `direct_io` is the caller's to fill in. ENOTBLK for what is neither a regular file nor a block device.
Result<StorageFacts> facts_of(int fd, const std::string& path);

// open(2) with O_DIRECT where the file system has it (`direct_io` tells), else without. Refuses directories, pipes and
// so on before opening them.
struct OpenedPath {
  int fd = -1;
  bool direct_io = false;
};
Result<OpenedPath> open_path(const std::string& path, bool writable);

}  // namespace stp
