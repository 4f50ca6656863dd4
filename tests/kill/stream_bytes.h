// The bytes of a stream: every eight of them follow from the stream's seed and their place, so that whoever receives them can tell
// each one, and a piece of another stream or place is seen for what it is.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace turns {

inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Calls `take(at, bytes, count)` for each word, or part of one, that lies in the `size` bytes from `offset` on.
template <class Take>
void each_word(std::uint64_t seed, std::uint64_t offset, std::size_t size, Take take) {
  for (std::size_t at = 0; at < size;) {
    const std::uint64_t place = offset + at;
    const std::uint64_t word = mix(seed + place / 8);
    const std::size_t from = place % 8;
    const std::size_t count = std::min(8 - from, size - at);
    unsigned char bytes[8];
    std::memcpy(bytes, &word, 8);
    if (!take(at, bytes + from, count)) return;
    at += count;
  }
}

inline void make_bytes(std::uint64_t seed, std::uint64_t offset, std::span<unsigned char> into) {
  each_word(seed, offset, into.size(), [&](std::size_t at, const unsigned char* bytes, std::size_t count) {
    std::memcpy(into.data() + at, bytes, count);
    return true;
  });
}

// Where the first wrong word is, counted from the beginning of `got`; its size when there is none.
inline std::size_t first_wrong(std::uint64_t seed, std::uint64_t offset, std::span<const unsigned char> got) {
  std::size_t wrong = got.size();
  each_word(seed, offset, got.size(), [&](std::size_t at, const unsigned char* bytes, std::size_t count) {
    if (std::memcmp(got.data() + at, bytes, count) == 0) return true;
    wrong = at;
    return false;
  });
  return wrong;
}

}  // namespace turns
