#include "stp/checksum.h"

#include <isa-l/crc.h>
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // the same hash by the widest vectors of this processor; the library's own is built for the oldest
#endif

namespace stp {

std::uint32_t crc32c(std::uint32_t seed, ConstBytes data) {
  if (data.empty()) return seed;
  // crc32_iscsi takes and gives the raw register; it does not write through the pointer.
  auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data()));
  return ~crc32_iscsi(bytes, static_cast<int>(data.size()), ~seed);
}

std::uint64_t hash64(std::uint64_t seed, ConstBytes data) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

}  // namespace stp
