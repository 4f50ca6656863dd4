#include "stp/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "stp/names.h"

namespace stp {
namespace {

constexpr std::uint32_t kMaxEntries = 32;
constexpr std::uint64_t kMostTotalBlocks = std::uint64_t{1} << 46;  // of 64 KiB they are 4 EiB: byte offsets never wrap
constexpr std::size_t kEntrySize = 40;
constexpr std::size_t kDirectoryAt = 136;

enum RegionType : std::uint32_t { kLeases = 1, kGates, kScbTables, kPortFiles, kRings, kCaches };

struct Entry {
  std::uint32_t type = 0;
  std::uint64_t first = 0, stride = 0, blocks = 0, count = 0;
  bool operator==(const Entry&) const = default;
};

std::array<Entry, 6> directory(const Geometry& g) {
  const std::uint64_t n = g.hosts;
  return {{{kLeases, g.lease_first, 0, n, 1},
           {kGates, g.gate_first, 0, n * n, 1},
           {kScbTables, g.area_first, g.area_blocks, g.scb_blocks, n},
           {kPortFiles, g.area_first + g.ports_at, g.area_blocks, g.port_blocks, n},
           {kRings, g.area_first + g.rings_at, g.area_blocks, n * g.ring_blocks, n},
           {kCaches, g.area_first + g.cache_at, g.area_blocks, static_cast<std::uint64_t>(g.extents) * g.extent_blocks, n}}};
}

constexpr std::uint32_t Timing::*kTimingFields[12] = {
    &Timing::beat_ms,  &Timing::beat_io_ms, &Timing::stall_ms,      &Timing::check_ms, &Timing::late_ms, &Timing::claim_ms,
    &Timing::observe_ms, &Timing::observe_io_ms, &Timing::fence_ms, &Timing::dead_ms,  &Timing::join_ms, &Timing::rho_thousandths};

}  // namespace

std::string_view to_string(MediumKind kind) { return kind == MediumKind::kMapped ? "mapped" : "direct"; }

std::string to_string(const Uuid& u) {
  std::string out;
  for (std::size_t i = 0; i < u.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", std::to_integer<unsigned>(u[i]));
  }
  return out;
}

void encode_superblock(Bytes block, const Superblock& s, std::uint64_t place) {
  std::ranges::fill(block, std::byte{0});
  const auto entries = directory(s.geometry);
  Writer w(block.subspan(kBlockHeaderSize));
  w.text(s.stg, 32);
  w.u32(s.geometry.block_size);
  w.u32(s.geometry.hosts);
  w.u32(s.geometry.sockets);
  w.u32(s.geometry.ring_blocks);
  w.u32(s.geometry.extents);
  w.u8(static_cast<std::uint8_t>(s.medium));
  w.zeros(3);
  w.u64(s.geometry.total_blocks);
  for (auto field : kTimingFields) w.u32(s.timing.*field);
  w.u64(s.formatted_ms);
  w.u64(0);
  w.u32(static_cast<std::uint32_t>(entries.size()));
  w.u32(0);
  for (const Entry& e : entries) {
    w.u32(e.type);
    w.u32(0);
    w.u64(e.first);
    w.u64(e.stride);
    w.u64(e.blocks);
    w.u64(e.count);
  }
  BlockHeader h;
  h.magic = kSuperblockMagic;
  h.uuid = s.uuid;
  h.place = place;
  h.writer = {.slot = kNoSlot, .incarnation = 1, .nonce = 0};
  h.sequence = 1;
  h.body_length = static_cast<std::uint32_t>(w.size());
  seal_block(block, h);
}

Result<Superblock> decode_superblock(ConstBytes bytes) {
  if (bytes.size() < kMinBlockSize) return fail(EINVAL, "superblock: shorter than 4096 bytes");
  const OpenedBlock opened = open_any_block(bytes.first(kMinBlockSize), kSuperblockMagic);
  if (opened.fault != BlockFault::kNone) return fail(EINVAL, fmt::format("superblock: {}", to_string(opened.fault)));
  Reader r(opened.body);
  Superblock s;
  s.uuid = opened.header.uuid;
  s.stg = r.text(32);
  s.geometry.block_size = r.u32();
  s.geometry.hosts = r.u32();
  s.geometry.sockets = r.u32();
  s.geometry.ring_blocks = r.u32();
  s.geometry.extents = r.u32();
  const std::uint8_t medium = r.u8();
  r.skip(3);
  s.geometry.total_blocks = r.u64();
  for (auto field : kTimingFields) s.timing.*field = r.u32();
  s.formatted_ms = r.u64();
  const std::uint64_t needed_features = r.u64();
  const std::uint32_t count = r.u32();
  r.u32();
  if (r.bad() || count > kMaxEntries || r.left() < count * kEntrySize) return fail(EINVAL, "superblock: its directory is cut short");
  static_assert(kDirectoryAt == 32 + 5 * 4 + 4 + 8 + 12 * 4 + 8 + 8 + 8);
  if (needed_features != 0)
    return fail(EINVAL, fmt::format("superblock: needs features {:#x}, which this version does not know", needed_features));
  if (!valid_stg_name(s.stg)) return fail(EINVAL, "superblock: the STG name is not one");
  if (medium != 1 && medium != 2) return fail(EINVAL, fmt::format("superblock: unknown medium {}", medium));
  s.medium = static_cast<MediumKind>(medium);
  if (s.geometry.total_blocks > kMostTotalBlocks) return fail(EINVAL, "superblock: total blocks is absurd");
  auto geometry = derive_geometry(s.geometry);
  if (!geometry) return fail(EINVAL, "superblock: " + geometry.error().text);
  s.geometry = *geometry;
  if (auto ok = check_timing(s.timing); !ok) return fail(EINVAL, "superblock: " + ok.error().text);
  if (opened.header.place != 0 && opened.header.place != s.geometry.superblock_copy())
    return fail(EINVAL, "superblock: it does not belong in this place");
  std::uint32_t known = 0;
  const auto want = directory(s.geometry);
  for (std::uint32_t i = 0; i < count; ++i) {
    Entry e;
    e.type = r.u32();
    r.u32();
    e.first = r.u64();
    e.stride = r.u64();
    e.blocks = r.u64();
    e.count = r.u64();
    if (e.type < kLeases || e.type > kCaches) continue;
    if (e != want[e.type - 1]) return fail(EINVAL, fmt::format("superblock: region {} is not where the geometry puts it", e.type));
    known |= 1u << e.type;
  }
  if (known != 0x7e) return fail(EINVAL, "superblock: its directory lacks a region");
  return s;
}

}  // namespace stp
