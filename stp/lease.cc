#include "stp/lease.h"

#include <algorithm>

#include "stp/checksum.h"
#include "stp/names.h"

namespace stp {
namespace {

constexpr std::size_t kCoreBody = 160;
constexpr std::size_t kSeenAt = 512;
constexpr std::size_t kSeenEntry = 24;
static_assert(kBlockHeaderSize + kCoreBody <= kSeenAt);
static_assert(kSeenAt + 8 + kMaxHosts * kSeenEntry <= kMinBlockSize);

std::uint32_t seen_crc(ConstBytes list, const Uuid& uuid, std::uint64_t place, const Lease& l) {
  std::array<std::byte, 48> seed{};
  Writer w(seed);
  w.raw(uuid);
  w.u64(place);
  w.u64(l.owner.incarnation);
  w.u64(l.beat);
  w.u64(l.owner.nonce);
  return crc32c(crc32c(0, seed), list);
}

}  // namespace

std::string_view to_string(LeaseState state) {
  switch (state) {
    case LeaseState::kFree: return "FREE";
    case LeaseState::kClaim: return "CLAIM";
    case LeaseState::kOwned: return "OWNED";
  }
  return "?";
}

void encode_lease(Bytes block, const Lease& l, const Uuid& uuid, const Geometry& g) {
  std::ranges::fill(block, std::byte{0});
  Writer w(block.subspan(kBlockHeaderSize, kCoreBody));
  w.u8(static_cast<std::uint8_t>(l.state));
  w.zeros(3);
  w.u32(l.pid);
  w.text(l.name, 64);
  w.raw(l.boot_id);
  w.u64(l.device);
  w.u64(l.inode);
  w.raw(l.randomness);
  w.u16(l.lowest_version);
  w.u16(l.highest_version);
  w.u32(l.beat_ms);
  w.u64(l.features);
  w.zeros(24);

  const std::uint32_t count = static_cast<std::uint32_t>(std::min<std::size_t>(l.seen.size(), kMaxHosts));
  Writer list(block.subspan(kSeenAt + 4));
  list.u32(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    list.u64(l.seen[i].incarnation);
    list.u64(l.seen[i].nonce);
    list.u32(l.seen[i].flags);
    list.u32(0);
  }
  const std::uint64_t place = g.lease(l.owner.slot);
  store_le<std::uint32_t>(block.data() + kSeenAt, seen_crc(block.subspan(kSeenAt + 4, list.size()), uuid, place, l));

  BlockHeader h;
  h.magic = kLeaseMagic;
  h.uuid = uuid;
  h.place = place;
  h.writer = l.owner;
  h.sequence = l.beat;
  h.body_length = kCoreBody;
  seal_block(block, h);
}

DecodedLease decode_lease(ConstBytes block, const Uuid& uuid, const Geometry& g, Slot slot) {
  DecodedLease out;
  const OpenedBlock opened = open_block(block, kLeaseMagic, uuid, g.lease(slot), slot);
  out.fault = opened.fault;
  if (opened.fault != BlockFault::kNone) return out;
  Reader r(opened.body);
  Lease& l = out.lease;
  l.owner = opened.header.writer;
  l.beat = opened.header.sequence;
  const std::uint8_t state = r.u8();
  r.skip(3);
  l.pid = r.u32();
  l.name = r.text(64);
  l.boot_id = r.array<16>();
  l.device = r.u64();
  l.inode = r.u64();
  l.randomness = r.array<16>();
  l.lowest_version = r.u16();
  l.highest_version = r.u16();
  l.beat_ms = r.u32();
  l.features = r.u64();
  l.state = static_cast<LeaseState>(state);
  const bool named = valid_instance_name(l.name);
  if (r.bad() || state < 1 || state > 3 || (!named && !(l.state == LeaseState::kFree && l.name.empty()))) {
    out.fault = BlockFault::kBody;
    out.lease = {};  // nobody is to show a name that is none
    return out;
  }
  Reader list(block.subspan(kSeenAt + 4));
  const std::uint32_t count = list.u32();
  if (count > kMaxHosts) return out;
  const ConstBytes covered = block.subspan(kSeenAt + 4, 4 + count * kSeenEntry);
  if (seen_crc(covered, uuid, g.lease(slot), l) != load_le<std::uint32_t>(block.data() + kSeenAt)) return out;
  for (std::uint32_t i = 0; i < count; ++i) {
    Seen s;
    s.incarnation = list.u64();
    s.nonce = list.u64();
    s.flags = list.u32();
    list.u32();
    l.seen.push_back(s);
  }
  return out;
}

}  // namespace stp
