// A fuzz target: one function over the bytes of an input, whatever they are. With the meson option `fuzzing` it is linked with
// libFuzzer and looks for inputs that break it (run.sh); else with replay.cc, which runs it over the inputs that were kept.
//
// A target must be a function of its input, as far as threads allow: what broke it once has to break it again.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "stp/bytes.h"

namespace stp::fuzz {

// Each target defines it.
void run(ConstBytes input);

// What must hold whatever the input says.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// The input as a row of decisions. At its end everything is 0.
class Input {
 public:
  explicit Input(ConstBytes bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint16_t u16() { return number<std::uint16_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  bool flag() { return (u8() & 1) != 0; }
  std::uint64_t below(std::uint64_t bound) { return bound <= 256 ? u8() % bound : u32() % bound; }
  // Mostly at or near what would make sense: that gets further.
  std::uint64_t near(std::uint64_t sensible) {
    const std::uint8_t how = u8();
    if (how < 128) return sensible;
    if (how < 192) return sensible + (how - 160);
    if (how < 208) return u64();
    if (how < 224) return u16();
    if (how < 240) return ~std::uint64_t{0} - (how - 224);
    return std::uint64_t{1} << (u8() % 64);
  }
  ConstBytes take(std::size_t most) {
    const ConstBytes part = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(part.size());
    return part;
  }
  ConstBytes rest() { return take(rest_.size()); }
  std::string_view text(std::size_t most) {
    const ConstBytes part = take(most);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  // Overwrites some pieces of `bytes`, as it says.
  void patch(Bytes bytes) {
    for (std::uint64_t pieces = below(16); pieces > 0 && !bytes.empty() && !empty(); --pieces) {
      const std::size_t at = u16() % bytes.size();
      const ConstBytes piece = take(std::min<std::size_t>(1 + u8() % 16, bytes.size() - at));
      std::ranges::copy(piece, bytes.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }

 private:
  template <class T>
  T number() {
    std::byte bytes[sizeof(T)] = {};
    std::ranges::copy(take(sizeof(T)), bytes);
    return load_le<T>(bytes);
  }
  ConstBytes rest_;
};

}  // namespace stp::fuzz
