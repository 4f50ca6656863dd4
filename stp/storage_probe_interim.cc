#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "stp/raw_file.h"
#include "stp/storage.h"

namespace stp {

Result<StorageFacts> probe_storage(const std::string& path) {
  StorageFacts facts;
  auto file = RawFile::open(path, {});
  if (!file) return std::unexpected(file.error());
  struct stat st {};
  ::fstat(file->fd(), &st);
  facts.block_device = S_ISBLK(st.st_mode);
  facts.direct_io = file->direct();
  auto size = file->size();
  if (!size) return std::unexpected(size.error());
  facts.size_bytes = *size;
  if (facts.block_device) {
    int logical = 512;
    unsigned physical = 512;
    ::ioctl(file->fd(), BLKSSZGET, &logical);
    ::ioctl(file->fd(), BLKPBSZGET, &physical);
    facts.logical_block_bytes = static_cast<std::uint32_t>(logical);
    facts.physical_block_bytes = physical;
    return facts;
  }
  struct statfs fs {};
  ::fstatfs(file->fd(), &fs);
  facts.file_system = fs.f_type == TMPFS_MAGIC ? "tmpfs" : fmt::format("{:#x}", fs.f_type);
  facts.network_file_system = fs.f_type == NFS_SUPER_MAGIC || fs.f_type == FUSE_SUPER_MAGIC;
  return facts;
}

}  // namespace stp
