// Which of a program's sockets have news: a page that the program and its agent share, one bit a socket, for each direction. Who
// sets the first bit of a group also writes the other's eventfd; who was told takes all bits at once. Cost follows what is new, not
// how many sockets there are. Bits that the other side sets or loses without reason cost a look, or concern its own sockets alone.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

namespace stp::host {

inline constexpr std::uint32_t kMostSocketsOfAProgram = 65536;

struct NewsDirection {
  static constexpr std::uint32_t kWords = kMostSocketsOfAProgram / 64;
  std::atomic<std::uint64_t> groups[kWords / 64];  // one bit for each word below that is not 0
  std::atomic<std::uint64_t> words[kWords];

  // True: nobody had told of anything in this group before; write the eventfd.
  bool set(std::uint32_t index) {
    index %= kMostSocketsOfAProgram;
    words[index / 64].fetch_or(std::uint64_t{1} << (index % 64));
    const std::uint64_t group = std::uint64_t{1} << (index / 64 % 64);
    return (groups[index / 4096].fetch_or(group) & group) == 0;
  }

  bool has(std::uint32_t index) const { return (words[index / 64].load(std::memory_order_acquire) >> (index % 64) & 1) != 0; }

  // Calls tell(index) for each bit, and takes it off.
  template <class Tell>
  void take(Tell tell) {
    for (std::uint32_t g = 0; g < kWords / 64; ++g) {
      if (groups[g].load(std::memory_order_relaxed) == 0) continue;
      for (std::uint64_t some = groups[g].exchange(0); some != 0; some &= some - 1) {
        const std::uint32_t word = g * 64 + static_cast<std::uint32_t>(std::countr_zero(some));
        for (std::uint64_t bits = words[word].exchange(0); bits != 0; bits &= bits - 1)
          tell(word * 64 + static_cast<std::uint32_t>(std::countr_zero(bits)));
      }
    }
  }
};

struct NewsBoard {
  NewsDirection to_agent;
  NewsDirection to_program;
};
inline constexpr std::size_t kNewsBoardBytes = (sizeof(NewsBoard) + 4095) / 4096 * 4096;

}  // namespace stp::host
