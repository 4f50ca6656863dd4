// The header that every control block begins with, its sealing and its checking.
//
//   offset size  field
//        0    8  magic, legible in a hexdump ("STPLEASE", "STPGATE ", ...)
//        8    2  record version
//       10    2  flags, 0
//       12    4  CRC32C: seeded with UUID, place, writer's incarnation and sequence (40
//                bytes, in that order, as stored), over bytes 0 to 127 + body length
//                with this field taken as zero
//       16   16  storage UUID: a block of another format is not ours
//       32    8  place: the block number where this block belongs (misdirected writes)
//       40    4  writer's slot
//       44    4  addressee's slot, 0xffffffff where there is none
//       48    8  writer's incarnation
//       56    8  writer's nonce
//       64    8  addressee's incarnation, 0 where there is none
//       72    8  addressee's nonce
//       80    8  sequence (each record says of what)
//       88    4  body length in bytes, the body follows the header
//       92    4  key id, 0 = clear (room for encryption)
//       96   12  encryption nonce, 0
//      108   16  authentication tag, 0
//      124    4  reserved, 0
//      128       body
//
// All integers little-endian. What lies behind the body is not covered and means nothing.
#pragma once

#include <cstdint>
#include <string_view>

#include "stp/bytes.h"
#include "stp/identity.h"

namespace stp {

inline constexpr std::size_t kBlockHeaderSize = 128;
inline constexpr std::size_t kMinBlockSize = 4096;
inline constexpr std::size_t kMaxBlockSize = 65536;

// "STPLEASE" and so on, as the 8 bytes read little-endian.
consteval std::uint64_t magic(const char (&text)[9]) {
  std::uint64_t v = 0;
  for (int i = 0; i < 8; ++i) v |= static_cast<std::uint64_t>(static_cast<unsigned char>(text[i])) << (8 * i);
  return v;
}

struct BlockHeader {
  std::uint64_t magic = 0;
  std::uint16_t version = 1;
  Uuid uuid{};
  std::uint64_t place = 0;
  Identity writer;
  Identity addressee;
  std::uint64_t sequence = 0;
  std::uint32_t body_length = 0;
  std::uint32_t key_id = 0;
};

// Why a block was not accepted. kEmpty (all of the first 16 bytes zero) is the state that
// the format leaves; everything else but kNone is "not there yet" until a bound has passed.
enum class BlockFault : std::uint8_t {
  kNone,
  kEmpty,
  kMagic,
  kVersion,
  kUuid,
  kPlace,
  kWriter,     // another slot than the one whose place this is
  kLength,
  kChecksum,
  kEncrypted,  // key id not 0: written by a version that encrypts
  kBody,       // header good, a field of the body is outside its bounds
};
std::string_view to_string(BlockFault fault);

// Writes header and CRC into `block`; the body (header.body_length bytes at 128) must be in place.
void seal_block(Bytes block, const BlockHeader& header);

// Parses and checks magic, version, UUID, place, writer's slot (unless kNoSlot is asked for), body
// length against the block's size, and the CRC. Identity and sequence are the caller's to judge.
struct OpenedBlock {
  BlockFault fault = BlockFault::kNone;
  BlockHeader header;
  ConstBytes body;
};
OpenedBlock open_block(ConstBytes block, std::uint64_t magic, const Uuid& uuid, std::uint64_t place, Slot writer);

// The same without a UUID or place to compare with: for finding a superblock.
OpenedBlock open_any_block(ConstBytes block, std::uint64_t magic);

}  // namespace stp
