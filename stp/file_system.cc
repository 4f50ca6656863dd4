#include "stp/file_system.h"

#include <fmt/format.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdint>

namespace stp {
namespace {

struct Known {
  std::uint32_t magic;
  const char* name;
  bool network;
};

// statfs(2), linux/magic.h, and the sources of the file systems that live outside of the kernel.
constexpr Known kKnown[] = {
    {0xef53, "ext4", false},         {0x58465342, "xfs", false},       {0x9123683e, "btrfs", false},    {0x01021994, "tmpfs", false},
    {0x858458f6, "ramfs", false},    {0x958458f6, "hugetlbfs", false}, {0xf2f52010, "f2fs", false},     {0x2fc12fc1, "zfs", false},
    {0xca451a4e, "bcachefs", false}, {0x794c7630, "overlay", false},   {0x52654973, "reiserfs", false}, {0x3153464a, "jfs", false},
    {0x3434, "nilfs2", false},       {0x7366746e, "ntfs3", false},     {0x2011bab0, "exfat", false},    {0x4d44, "vfat", false},
    {0x73717368, "squashfs", false}, {0x15013346, "udf", false},       {0x9660, "iso9660", false},      {0x6969, "nfs", true},
    {0xff534d42, "cifs", true},      {0xfe534d42, "smb2", true},       {0x517b, "smb", true},           {0x65735546, "fuse", true},
    {0x01021997, "9p", true},        {0x00c36400, "ceph", true},       {0x01161970, "gfs2", true},      {0x7461636f, "ocfs2", true},
    {0x0bd00bd0, "lustre", true},    {0x47504653, "gpfs", true},       {0x19830326, "beegfs", true},    {0x20030528, "orangefs", true},
    {0x5346414f, "afs", true},       {0x6b414653, "afs", true},        {0x73757245, "coda", true},      {0x786f4256, "vboxsf", true},
    {0xbacbacbc, "vmhgfs", true},    {0xaad7aaea, "panfs", true},      {0xa501fcf5, "vxfs", true},      {0x61636673, "acfs", true},
    {0xbeefdead, "snfs", true},      {0x013111a8, "ibrix", true},      {0x564c, "ncp", true},
};

}  // namespace

FileSystem file_system_of(int fd) {
  struct statfs facts {};
  int result;
  do {
    result = ::fstatfs(fd, &facts);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return {.name = "unknown", .network = true};
  const auto magic = static_cast<std::uint32_t>(facts.f_type);
  for (const Known& known : kKnown) {
    if (known.magic == magic) return {.name = known.name, .network = known.network};
  }
  return {.name = fmt::format("{:#x}", magic), .network = true};
}

}  // namespace stp
