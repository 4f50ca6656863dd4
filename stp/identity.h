// Who wrote a block, and for whom. Slots are places in the lease array; an
// incarnation is one life of a host in its slot; the nonce tells apart two lives
// that (by clone, rollback or race) carry one incarnation number.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace stp {

using Uuid = std::array<std::byte, 16>;
using Slot = std::uint32_t;
inline constexpr Slot kNoSlot = 0xffffffff;

struct Identity {
  Slot slot = kNoSlot;
  std::uint64_t incarnation = 0;
  std::uint64_t nonce = 0;
  bool operator==(const Identity&) const = default;
};

}  // namespace stp
