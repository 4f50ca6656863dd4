// Checksums. CRC32C guards every control block; a 64-bit xxHash (XXH3) guards
// the bulk bytes of an extent. Both detect damage; neither is authentication.
#pragma once

#include <cstdint>

#include "stp/bytes.h"

namespace stp {

// CRC32C (Castagnoli), initial value and final xor as in iSCSI (RFC 3720, B.4);
// `seed` is a previous result, 0 to start. crc32c(crc32c(0, a), b) == crc32c(0, ab).
std::uint32_t crc32c(std::uint32_t seed, ConstBytes data);

// XXH3-64 of `data`, seeded.
std::uint64_t hash64(std::uint64_t seed, ConstBytes data);

}  // namespace stp
