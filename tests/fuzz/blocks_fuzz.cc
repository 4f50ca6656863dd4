// The decoders of blocks that stand alone: superblock, lease, gate, SCB table, port file. What one of them accepts is written out as a
// block that says the same.
#include <vector>

#include "stp/checksum.h"
#include "tests/fuzz/sealing.h"
#include "tests/unit/golden.h"

namespace stp::fuzz {
namespace {

using golden::Block;

const Geometry& geometry() {
  static const Geometry g = golden::geometry();
  return g;
}
const Uuid& uuid() {
  static const Uuid u = golden::uuid();
  return u;
}
constexpr Slot kSlot = golden::kAlpha.slot;

// A kind of block: a good one, how it is sealed, and what must hold of any.
struct Kind {
  std::uint64_t magic, place;
  Slot writer;
  void (*make)(Bytes block);
  void (*judge)(ConstBytes block);
};

void judge_superblock(ConstBytes block) {
  const auto decoded = decode_superblock(block);
  if (!decoded) return require(!decoded.error().text.empty(), "a refusal has words");
  const Geometry& g = decoded->geometry;
  require(g.lease_first + g.hosts <= g.gate_first && g.gate_first + std::uint64_t{g.hosts} * g.hosts <= g.area_first, "regions do not overlap");
  require(g.area_first + g.hosts * g.area_blocks <= g.superblock_copy(), "regions end before the copy");
  require(g.cache_at + std::uint64_t{g.extents} * g.extent_blocks <= g.area_blocks, "extents lie in their host's area");
  require(g.total_bytes() / g.block_size == g.total_blocks, "byte offsets do not wrap");
  Block again(kMinBlockSize);
  encode_superblock(again, *decoded, 0);
  const auto back = decode_superblock(again);
  require(back && *back == *decoded, "a superblock is read as it was written");
}

void judge_lease(ConstBytes block) {
  const DecodedLease decoded = decode_lease(block, uuid(), geometry(), kSlot);
  if (decoded.fault != BlockFault::kNone) return require(decoded.lease == Lease{}, "nothing is said of a lease that is refused");
  Block again(block.size());
  encode_lease(again, decoded.lease, uuid(), geometry());
  const DecodedLease back = decode_lease(again, uuid(), geometry(), kSlot);
  require(back.fault == BlockFault::kNone && back.lease == decoded.lease, "a lease is read as it was written");
}

void judge_gate(ConstBytes block) {
  const DecodedGate decoded = decode_gate(block, uuid(), geometry(), golden::kBeta.slot, kSlot);
  if (decoded.fault != BlockFault::kNone) return;
  Block again(block.size());
  encode_gate(again, decoded.gate, uuid(), geometry());
  const DecodedGate back = decode_gate(again, uuid(), geometry(), golden::kBeta.slot, kSlot);
  require(back.fault == BlockFault::kNone && back.gate == decoded.gate, "a gate is read as it was written");
}

void judge_scbs(ConstBytes block) {
  const DecodedScbBlock decoded = decode_scb_block(block, uuid(), geometry(), kSlot, 1);
  if (decoded.fault != BlockFault::kNone) return;
  require(decoded.block.scbs.size() <= geometry().scbs_a_block(), "no more SCBs than fit");
  Block again(block.size());
  encode_scb_block(again, decoded.block, uuid(), geometry());
  const DecodedScbBlock back = decode_scb_block(again, uuid(), geometry(), kSlot, 1);
  require(back.fault == BlockFault::kNone && back.block.owner == decoded.block.owner && back.block.sequence == decoded.block.sequence &&
              back.block.scbs == decoded.block.scbs,
          "SCBs are read as they were written");
}

void judge_ports(ConstBytes block) {
  const DecodedPortBlock decoded = decode_port_block(block, uuid(), geometry(), kSlot, 0);
  if (decoded.fault != BlockFault::kNone) return;
  require(decoded.block.ports.size() <= geometry().ports_a_block(), "no more ports than fit");
  Block again(block.size());
  encode_port_block(again, decoded.block, uuid(), geometry());
  const DecodedPortBlock back = decode_port_block(again, uuid(), geometry(), kSlot, 0);
  require(back.fault == BlockFault::kNone && back.block.owner == decoded.block.owner && back.block.ports == decoded.block.ports,
          "ports are read as they were written");
}

const Kind kKinds[] = {
    {kSuperblockMagic, 0, kNoSlot, [](Bytes b) { encode_superblock(b, golden::superblock(), 0); }, judge_superblock},
    {kLeaseMagic, geometry().lease(kSlot), kSlot, [](Bytes b) { encode_lease(b, golden::lease(), uuid(), geometry()); }, judge_lease},
    {kGateMagic, geometry().gate(golden::kBeta.slot, kSlot), kSlot, [](Bytes b) { encode_gate(b, golden::gate(), uuid(), geometry()); }, judge_gate},
    {kScbMagic, geometry().scb_block(kSlot, 1), kSlot, [](Bytes b) { encode_scb_block(b, golden::scb_block(), uuid(), geometry()); }, judge_scbs},
    {kPortMagic, geometry().port_block(kSlot, 0), kSlot, [](Bytes b) { encode_port_block(b, golden::port_block(), uuid(), geometry()); }, judge_ports},
};

// The list in a lease has a checksum of its own, seeded with the header.
void seal_list(Bytes block) {
  constexpr std::size_t kListAt = 512, kEntry = 24;
  std::array<std::byte, 48> seed{};
  Writer w(seed);
  w.raw(uuid());
  w.u64(load_le<std::uint64_t>(block.data() + 32));
  w.u64(load_le<std::uint64_t>(block.data() + 48));
  w.u64(load_le<std::uint64_t>(block.data() + 80));
  w.u64(load_le<std::uint64_t>(block.data() + 56));
  const std::uint32_t count = std::min(load_le<std::uint32_t>(block.data() + kListAt + 4), kMaxHosts);
  store_le(block.data() + kListAt, crc32c(crc32c(0, seed), block.subspan(kListAt + 4, 4 + count * kEntry)));
}

}  // namespace

void run(ConstBytes bytes) {
  Input input(bytes);
  const Kind& kind = kKinds[input.below(std::size(kKinds))];
  const std::uint8_t how = input.u8();
  Block block(kMinBlockSize);
  if ((how & 1) != 0) {
    kind.make(block);
    input.patch(block);
  } else {
    std::ranges::copy(input.take(block.size()), block.begin());
  }
  if ((how & 6) == 2) seal_again(block);
  if ((how & 4) != 0) seal_again(block, kind.magic, uuid(), kind.place, kind.writer);
  if ((how & 8) != 0) seal_list(block);
  kind.judge(block);
  kind.judge(ConstBytes(block).first(how));
}

}  // namespace stp::fuzz
