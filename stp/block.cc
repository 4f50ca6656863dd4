#include "stp/block.h"

#include <array>
#include <cstring>

#include "stp/checksum.h"
#include "stp/plant.h"

namespace stp {
namespace {

constexpr std::size_t kCrcOffset = 12;
constexpr std::uint64_t kPlantedMagic = magic("STPPACKT");

std::uint32_t block_crc(ConstBytes covered, const BlockHeader& h) {
  std::array<std::byte, 40> seed{};
  Writer w(seed);
  w.raw(h.uuid);
  w.u64(h.place);
  w.u64(h.writer.incarnation);
  w.u64(h.sequence);
  std::uint32_t crc = crc32c(0, seed);
  const std::array<std::byte, 4> zero{};
  crc = crc32c(crc, covered.first(kCrcOffset));
  crc = crc32c(crc, zero);
  return crc32c(crc, covered.subspan(kCrcOffset + 4));
}

BlockHeader parse_header(ConstBytes block, std::uint32_t& crc) {
  Reader r(block.first(kBlockHeaderSize));
  BlockHeader h;
  h.magic = r.u64();
  h.version = r.u16();
  r.u16();
  crc = r.u32();
  h.uuid = r.array<16>();
  h.place = r.u64();
  h.writer.slot = r.u32();
  h.addressee.slot = r.u32();
  h.writer.incarnation = r.u64();
  h.writer.nonce = r.u64();
  h.addressee.incarnation = r.u64();
  h.addressee.nonce = r.u64();
  h.sequence = r.u64();
  h.body_length = r.u32();
  h.key_id = r.u32();
  return h;
}

bool is_empty(ConstBytes block) {
  for (std::size_t i = 0; i < 16; ++i)
    if (block[i] != std::byte{0}) return false;
  return true;
}

OpenedBlock check(ConstBytes block, std::uint64_t want_magic, const Uuid* uuid, const std::uint64_t* place, Slot writer) {
  OpenedBlock out;
  auto refuse = [&out](BlockFault f) {
    out.fault = f;
    return out;
  };
  if (block.size() < kBlockHeaderSize) return refuse(BlockFault::kLength);
  if (is_empty(block)) return refuse(BlockFault::kEmpty);
  std::uint32_t crc = 0;
  out.header = parse_header(block, crc);
  const BlockHeader& h = out.header;
  if (h.magic != want_magic) return refuse(BlockFault::kMagic);
  if (uuid != nullptr && h.uuid != *uuid) return refuse(BlockFault::kUuid);
  if (place != nullptr && h.place != *place) return refuse(BlockFault::kPlace);
  if (writer != kNoSlot && h.writer.slot != writer) return refuse(BlockFault::kWriter);
  if (h.body_length > block.size() - kBlockHeaderSize) return refuse(BlockFault::kLength);
  const ConstBytes covered = block.first(kBlockHeaderSize + h.body_length);
  const bool believe = planted(Plant::kSkipPacketCrc) && want_magic == kPlantedMagic;
  if (block_crc(covered, h) != crc && !believe) return refuse(BlockFault::kChecksum);
  // Version and key come after the CRC: a damaged block must not pass for a newer one.
  if (h.version != 1) return refuse(BlockFault::kVersion);
  if (h.key_id != 0) return refuse(BlockFault::kEncrypted);
  out.body = covered.subspan(kBlockHeaderSize);
  return out;
}

}  // namespace

std::string_view to_string(BlockFault fault) {
  switch (fault) {
    case BlockFault::kNone: return "good";
    case BlockFault::kEmpty: return "never written";
    case BlockFault::kMagic: return "not the kind of block that belongs here";
    case BlockFault::kVersion: return "written by a newer version of the format";
    case BlockFault::kUuid: return "belongs to another storage system (UUID differs)";
    case BlockFault::kPlace: return "belongs to another place (misdirected or copied)";
    case BlockFault::kWriter: return "written by a host to which this place does not belong";
    case BlockFault::kLength: return "length outside the block";
    case BlockFault::kChecksum: return "checksum does not match (damaged or torn)";
    case BlockFault::kEncrypted: return "encrypted, and no key is known";
    case BlockFault::kBody: return "a field is outside its bounds";
  }
  return "unknown";
}

void seal_block(Bytes block, const BlockHeader& h) {
  Writer w(block.first(kBlockHeaderSize));
  w.u64(h.magic);
  w.u16(h.version);
  w.u16(0);
  w.u32(0);
  w.raw(h.uuid);
  w.u64(h.place);
  w.u32(h.writer.slot);
  w.u32(h.addressee.slot);
  w.u64(h.writer.incarnation);
  w.u64(h.writer.nonce);
  w.u64(h.addressee.incarnation);
  w.u64(h.addressee.nonce);
  w.u64(h.sequence);
  w.u32(h.body_length);
  w.u32(h.key_id);
  w.zeros(12 + 16 + 4);
  store_le<std::uint32_t>(block.data() + kCrcOffset, block_crc(block.first(kBlockHeaderSize + h.body_length), h));
}

OpenedBlock open_block(ConstBytes block, std::uint64_t magic, const Uuid& uuid, std::uint64_t place, Slot writer) {
  return check(block, magic, &uuid, &place, writer);
}

OpenedBlock open_any_block(ConstBytes block, std::uint64_t magic) {
  return check(block, magic, nullptr, nullptr, kNoSlot);
}

}  // namespace stp
