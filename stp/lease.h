// The lease: one block a slot. Who lives in the slot, and the beat that says so.
//
// Magic "STPLEASE"; writer = (slot, incarnation, nonce); sequence = beat. The first 512 bytes are
// the core, with the header's CRC, so that on a 512-byte disk it can not tear; the list of what the host
// sees of the others lies at 512 under a CRC of its own, and may be missing while the core is good.
//
//   body offset size  field
//        0    1  state: 1 FREE, 2 CLAIM, 3 OWNED
//        1    3  reserved
//        4    4  process id (display only)
//        8   64  host name, NUL-padded; in a FREE lease the name that the slot is kept for, may be empty
//       72   16  kernel boot id
//       88    8  device number   96 8 inode number, of the storage as this host opened it
//      104   16  fresh randomness of this beat: tells a clone or a rollback from the real one
//      120    4  protocol versions: lowest u16, highest u16
//      124    4  beat period, milliseconds
//      128    8  features
//      136   24  reserved  (core ends at 128 + 160 = 288)
//
//   block offset 512: CRC32C u32 (seeded with UUID, place, incarnation, beat and nonce; over count and entries), count u32, then
//   count entries of 24 bytes, one a slot: incarnation u64, nonce u64, flags u32, reserved u32.
//   Flags: 1 alive in my eyes, 2 refused (I called this incarnation dead, for good).
#pragma once

#include <string>
#include <vector>

#include "stp/block.h"
#include "stp/geometry.h"

namespace stp {

inline constexpr std::uint64_t kLeaseMagic = magic("STPLEASE");
inline constexpr std::uint16_t kProtocolVersion = 1;
// What others say of a slot's incarnations is believed only this far above what is known: each life adds less than 2^16.
inline constexpr std::uint64_t kSaneDistance = 1u << 24;

enum class LeaseState : std::uint8_t { kFree = 1, kClaim = 2, kOwned = 3 };
std::string_view to_string(LeaseState state);

struct Seen {
  static constexpr std::uint32_t kAlive = 1;
  static constexpr std::uint32_t kRefused = 2;
  std::uint64_t incarnation = 0;
  std::uint64_t nonce = 0;
  std::uint32_t flags = 0;
  bool operator==(const Seen&) const = default;
};

struct Lease {
  Identity owner;
  LeaseState state = LeaseState::kFree;
  std::uint32_t pid = 0;
  std::string name;
  Uuid boot_id{};
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t beat = 0;
  std::array<std::byte, 16> randomness{};
  std::uint16_t lowest_version = kProtocolVersion;
  std::uint16_t highest_version = kProtocolVersion;
  std::uint32_t beat_ms = 0;
  std::uint64_t features = 0;
  std::vector<Seen> seen;  // by slot; empty when the list did not check
  bool operator==(const Lease&) const = default;
};

struct DecodedLease {
  BlockFault fault = BlockFault::kNone;
  Lease lease;
};

void encode_lease(Bytes block, const Lease& lease, const Uuid& uuid, const Geometry& geometry);
// kEmpty never comes from a formatted storage: format writes FREE leases with incarnation 0.
DecodedLease decode_lease(ConstBytes block, const Uuid& uuid, const Geometry& geometry, Slot slot);

}  // namespace stp
