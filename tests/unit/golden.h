// Fixed records for the tests of the codecs, and the checks that every kind of record must pass.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <span>
#include <vector>

#include "stp/gate.h"
#include "stp/lease.h"
#include "stp/packet.h"
#include "stp/port_block.h"
#include "stp/scb.h"
#include "stp/superblock.h"
#include "tests/unit/golden_bytes.h"

namespace stp::golden {

using Block = std::vector<std::byte>;

inline Uuid uuid() {
  Uuid u{};
  for (std::size_t i = 0; i < 16; ++i) u[i] = static_cast<std::byte>(i * 0x11);
  return u;
}
inline Uuid other_uuid() {
  Uuid u = uuid();
  u[15] = std::byte{0xfe};
  return u;
}

// 4 hosts on 2305 blocks of 4096 bytes: leases at 1, gates at 5, host areas of 512 blocks from 256.
inline Geometry geometry() {
  Geometry g;
  g.block_size = 4096;
  g.hosts = 4;
  g.sockets = 62;
  g.ring_blocks = 16;
  g.extents = 4;
  g.total_blocks = 2305;
  return derive_geometry(g).value();
}

inline Superblock superblock() {
  return {.uuid = uuid(), .stg = "golden", .medium = MediumKind::kDirect, .geometry = geometry(), .timing = timing_profile("local").value(),
          .formatted_ms = 1700000000000};
}

inline constexpr Identity kAlpha{.slot = 1, .incarnation = 7, .nonce = 0x1122334455667788};
inline constexpr Identity kBeta{.slot = 2, .incarnation = 9, .nonce = 0x99aabbccddeeff00};

inline Lease lease() {
  Lease l;
  l.owner = kAlpha;
  l.state = LeaseState::kOwned;
  l.pid = 4321;
  l.name = "alpha~2";
  for (std::size_t i = 0; i < 16; ++i) {
    l.boot_id[i] = static_cast<std::byte>(15 - i);
    l.randomness[i] = static_cast<std::byte>(0xa0 + i);
  }
  l.device = 0xfe01;
  l.inode = 1234567;
  l.beat = 42;
  l.beat_ms = 500;
  l.seen = {{3, 0x0101010101010101, Seen::kAlive}, {7, kAlpha.nonce, Seen::kAlive}, {8, 0x0202020202020202, Seen::kRefused}, {}};
  return l;
}

inline Gate gate() { return {.sender = kAlpha, .receiver = kBeta, .sequence = 12, .head = 100, .ack = 77, .ack_seen = 76, .flags = Gate::kPolling}; }

inline constexpr std::uint64_t kPacketSequence = 18;
inline constexpr std::string_view kGreeting = "hello, disk";

inline Block packet() {
  Block block(4096);
  PacketBuilder builder(block);
  builder.append({1, true}, OpenMessage{.destination_port = 80, .source_port = 40000, .scb = 5, .tell_accepted = true, .limit = 65536});
  builder.append({1, true}, DataMessage{.offset = 0, .bytes = std::as_bytes(std::span(kGreeting))});
  builder.seal(kAlpha, kBeta, kPacketSequence, 77, uuid(), geometry());
  return block;
}

inline ScbBlock scb_block() {
  ScbBlock b{.owner = kAlpha, .sequence = 3, .index = 1, .scbs = {}};
  b.scbs.push_back({.state = ScbState::kEstablished, .initiator = true, .local_port = 40000, .peer_port = 80, .index = 31, .pid = 4321, .session = 1,
                    .sent = 1000, .received = 2000, .peer_slot = 2, .peer_incarnation = 9, .made_ms = 1700000000123, .peer_name = "beta"});
  b.scbs.push_back({.state = ScbState::kListening, .local_port = 80, .index = 32, .pid = 4321, .made_ms = 1700000000456, .peer_name = {}});
  return b;
}

inline PortBlock port_block() {
  PortBlock b{.owner = kAlpha, .sequence = 4, .index = 0, .ports = {}};
  b.ports.resize(496);
  b.ports[80] = {PortState::kListening, 32};
  b.ports[81] = {PortState::kBound, 33};
  return b;
}

// A block of `size` bytes from golden lines.
inline Block bytes(std::span<const Line> lines, std::size_t size = 4096) {
  Block block(size);
  const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
  for (const Line& line : lines) {
    std::size_t at = line.offset;
    for (std::size_t i = 0; i + 1 < line.hex.size(); ++i) {
      if (line.hex[i] == ' ') continue;
      block.at(at++) = static_cast<std::byte>(digit(line.hex[i]) << 4 | digit(line.hex[i + 1]));
      ++i;
    }
  }
  return block;
}

// Equal, or a message that names the first byte that is not.
inline ::testing::AssertionResult same_bytes(ConstBytes got, ConstBytes want) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (std::size_t i = 0; i < got.size(); ++i)
    if (got[i] != want[i])
      return ::testing::AssertionFailure() << "byte " << i << " is " << std::to_integer<int>(got[i]) << ", golden " << std::to_integer<int>(want[i]);
  return ::testing::AssertionSuccess();
}

using Decode = std::function<BlockFault(ConstBytes)>;

// Every single flipped bit of the first `covered` bytes is refused.
inline void expect_every_flip_refused(Block block, std::size_t covered, const Decode& decode) {
  ASSERT_EQ(decode(block), BlockFault::kNone);
  for (std::size_t bit = 0; bit < covered * 8; ++bit) {
    block[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    ASSERT_NE(decode(block), BlockFault::kNone) << "bit " << bit % 8 << " of byte " << bit / 8;
    block[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

// Every way of keeping only the first n bytes of the new block over an old one (zeros here) is refused: a torn write.
inline void expect_every_tear_refused(const Block& block, std::size_t covered, const Decode& decode) {
  std::size_t last = covered;
  while (last > 0 && block[last - 1] == std::byte{0}) --last;
  for (std::size_t kept = 0; kept < last; ++kept) {
    Block torn(block.size());
    std::copy_n(block.begin(), kept, torn.begin());
    ASSERT_NE(decode(torn), BlockFault::kNone) << "the first " << kept << " bytes alone";
  }
}

// Random blocks, and well-checksummed nonsense from a hostile host behind the given header: `decode` must survive it.
inline void feed_garbage(const BlockHeader& header, const Decode& decode) {
  std::mt19937_64 random(20240229);
  Block block(4096);
  const auto fill = [&] {
    for (std::size_t i = 0; i < block.size(); i += 8) store_le<std::uint64_t>(block.data() + i, random());
  };
  for (int i = 0; i < 200; ++i) {
    fill();
    EXPECT_NE(decode(block), BlockFault::kNone);
    BlockHeader h = header;
    if (i % 2 != 0) h.body_length = static_cast<std::uint32_t>(random() % (block.size() - kBlockHeaderSize + 1));
    // Half of them with small numbers, which get further than random ones.
    if (i % 4 < 2)
      for (std::size_t at = kBlockHeaderSize; at < block.size(); ++at) block[at] = random() % 8 == 0 ? static_cast<std::byte>(random() % 16) : std::byte{0};
    seal_block(block, h);
    (void)decode(block);
    EXPECT_NE(decode(ConstBytes(block).first(random() % kBlockHeaderSize)), BlockFault::kNone);
  }
}

}  // namespace stp::golden
