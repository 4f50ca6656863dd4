// Sizes as people write and read them: "92M", "1G", "4096"; units of 1024.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "stp/error.h"

namespace stp {

// A number with an optional K, M, G or T (KiB, MiB, GiB, TiB; "KiB" and "KB" mean the same). EINVAL in words otherwise.
Result<std::uint64_t> parse_size(std::string_view text);

// "92 MiB", "1.5 GiB", "512 bytes".
std::string size_text(std::uint64_t bytes);

}  // namespace stp
