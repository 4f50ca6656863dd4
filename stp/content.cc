#include "stp/content.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>

namespace stp {
namespace {

std::optional<std::string> value_of(blkid_probe probe, const char* name) {
  const char* data = nullptr;
  if (blkid_probe_lookup_value(probe, name, &data, nullptr) != 0 || data == nullptr) return std::nullopt;
  // Labels are bytes of a stranger's: keep what can be printed.
  std::string text;
  for (const char* c = data; *c != '\0' && text.size() < 64; ++c) text += (*c >= ' ' && *c <= '~') ? *c : '?';
  return text;
}

std::string article(const std::string& noun) { return (noun.find_first_of("aeioAEIO") == 0 ? "an " : "a ") + noun; }

std::optional<std::string> describe(blkid_probe probe) {
  blkid_probe_enable_superblocks(probe, 1);
  blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe, 1);
  const int found = blkid_do_safeprobe(probe);
  if (found == -2) return "several file systems' or partition tables' marks at once";
  if (found != 0) return std::nullopt;
  const auto label = value_of(probe, "LABEL");
  const std::string labelled = label && !label->empty() ? fmt::format(" labelled \"{}\"", *label) : "";
  if (const auto type = value_of(probe, "TYPE")) {
    const auto usage = value_of(probe, "USAGE");
    if (!usage || *usage == "filesystem") return article(*type) + " file system" + labelled;
    return *type + " data" + labelled;  // swap, LVM2_member, linux_raid_member, crypto_LUKS
  }
  if (const auto table = value_of(probe, "PTTYPE")) return article(*table) + " partition table";
  return std::nullopt;
}

}  // namespace

std::optional<std::string> foreign_content(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::optional<std::string> what;
  if (blkid_probe probe = blkid_new_probe(); probe != nullptr) {
    if (blkid_probe_set_device(probe, fd, 0, 0) == 0) what = describe(probe);
    blkid_free_probe(probe);
  }
  ::close(fd);
  return what;
}

}  // namespace stp
