#include "stp/copy.h"

#include <cstdint>
#include <cstring>

namespace stp {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kSlowAhead = 16;
constexpr std::size_t kBulk = 2048;  // below it memcpy is made of ordinary moves
constexpr std::size_t kStep = 64;

}  // namespace

void copy_bytes(std::byte* into, ConstBytes from) {
  std::size_t left = from.size();
  const std::size_t ahead = (reinterpret_cast<std::uintptr_t>(into) - reinterpret_cast<std::uintptr_t>(from.data())) % kPage;
  if (left >= kBulk && ahead > 0 && ahead < kSlowAhead) {
    for (; left >= kStep; left -= kStep) {
      std::byte step[kStep];
      std::memcpy(step, from.data() + left - kStep, kStep);
      std::memcpy(into + left - kStep, step, kStep);
    }
  }
  if (left > 0) std::memcpy(into, from.data(), left);
}

}  // namespace stp
