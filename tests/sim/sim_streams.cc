#include "tests/sim/sim_streams.h"

#include <algorithm>
#include <cstring>

#include "tests/sim/sim_random.h"

namespace stp::sim {
namespace {

std::uint64_t word(std::uint64_t id, bool forth, std::uint64_t index) {
  if (forth && index == 0) return id;
  return mix64(id ^ (index * 2 + (forth ? 1 : 0)) * 0xd6e8feb86659fd93);
}

}  // namespace

void fill_stream(std::uint64_t id, bool forth, std::uint64_t offset, Bytes out) {
  std::size_t at = 0;
  while (at < out.size()) {
    const std::uint64_t index = (offset + at) / 8;
    const std::size_t skip = (offset + at) % 8;
    const std::size_t n = std::min(out.size() - at, 8 - skip);
    std::byte bytes[8];
    store_le<std::uint64_t>(bytes, word(id, forth, index));
    std::memcpy(out.data() + at, bytes + skip, n);
    at += n;
  }
}

std::size_t match_stream(std::uint64_t id, bool forth, std::uint64_t offset, ConstBytes got, bool lies) {
  std::size_t at = 0;
  while (at < got.size()) {
    const std::size_t skip = (offset + at) % 8;
    const std::size_t n = std::min(got.size() - at, 8 - skip);
    std::byte bytes[8];
    store_le<std::uint64_t>(bytes, word(id, forth, (offset + at) / 8));
    for (std::size_t i = 0; i < n; ++i)
      if (got[at + i] != bytes[skip + i] && !(lies && got[at + i] == ~bytes[skip + i])) return at + i;
    at += n;
  }
  return got.size();
}

}  // namespace stp::sim
