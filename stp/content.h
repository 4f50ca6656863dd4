// What a device or file holds that is not ours, for words to an operator: libblkid's knowledge of file systems and
// partition tables.
#pragma once

#include <optional>
#include <string>

namespace stp {

// "an ext4 file system labelled \"data\"", "a gpt partition table", "LVM2_member data"; nothing where nothing is recognised or the
// path can not be read. Opens the path by itself, reading through the page cache.
std::optional<std::string> foreign_content(const std::string& path);

}  // namespace stp
