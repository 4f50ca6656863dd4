#include "stp/lent_memory.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "stp/engine.h"
#include "tests/unit/two_hosts.h"

namespace stp {
namespace {

using test::TwoHosts;

// Memory of a program, as large and as aligned as an agent's ring.
struct Ring {
  static constexpr std::size_t kBytes = 2u << 20;
  struct Memory {
    alignas(kExtentBytes) std::byte bytes[kBytes];
  };
  std::shared_ptr<Memory> memory = std::make_shared<Memory>();
  std::byte* data() const { return memory->bytes; }
  bool holds(const void* at) const { return at >= data() && at < data() + kBytes; }
};

struct Room final : Landing {
  std::byte* place(std::uint64_t ahead, std::size_t bytes) override {
    const std::uint64_t at = taken + ahead;
    return at % kBufferAlignment == 0 && at + bytes <= Ring::kBytes ? ring.data() + at : nullptr;
  }
  Ring ring;
  std::uint64_t taken = 0;
};

class LentMemory : public ::testing::Test {
 protected:
  LentMemory() {
    for (std::size_t i = 0; i < Ring::kBytes; ++i) ring.data()[i] = static_cast<std::byte>((i * 2654435761u) >> 13);
    const SocketId listener = beta().open(net.now).value();
    EXPECT_TRUE(beta().bind(listener, 7));
    EXPECT_TRUE(beta().listen(listener, 5));
    client = alpha().open(net.now).value();
    (void)alpha().connect(client, {"beta", "", 7}, false, net.now);
    EXPECT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
    server = beta().accept(listener, net.now).value();
    net.alpha.medium.fault = [this](const IoRequest& r) {
      if (r.op != IoRequest::Op::kWrite || r.block < net.superblock.geometry.extent(0, 0)) return 0;
      (ring.holds(r.buffer) ? written_from_ring : written_from_elsewhere) += 1;
      if (on_extent_write) on_extent_write();
      return 0;
    };
    net.beta.medium.fault = [this](const IoRequest& r) {
      if (r.op != IoRequest::Op::kRead || r.blocks < 2 || r.block < net.superblock.geometry.extent(0, 0)) return 0;
      (room->ring.holds(r.buffer) ? read_to_room : read_elsewhere) += 1;
      return 0;
    };
  }
  Engine& alpha() { return *net.alpha.engine; }
  Engine& beta() { return *net.beta.engine; }
  std::string pattern(std::size_t from, std::size_t size) const { return {reinterpret_cast<const char*>(ring.data()) + from, size}; }
  std::size_t lend(std::size_t from, std::size_t size, std::size_t most_bytes = 64u << 20) {
    const auto n = alpha().send_lent(client, {ring.data() + from, size}, {.keeper = ring.memory, .most_bytes = most_bytes}, net.now);
    return n ? *n : 0;
  }
  // Hands over all of the ring's first `size` bytes.
  void lend_all(std::size_t size, std::size_t from = 0, std::size_t at_once = Ring::kBytes) {
    ASSERT_TRUE(net.run_until([&] {
      if (from < size) from += lend(from, std::min(size - from, at_once));
      return from == size;
    }));
  }
  // What comes at beta until there are `size` bytes.
  std::string receive(std::size_t size) {
    std::string got;
    net.run_until([&] {
      std::string part(100'000, '\0');
      const auto n = beta().receive(server, std::as_writable_bytes(std::span(part)), false, net.now);
      if (n) got.append(part, 0, *n);
      return got.size() >= size;
    });
    return got;
  }
  // The same into the room, where it is to stay.
  void receive_in_room(std::size_t size) {
    net.run_until([&] {
      const auto n = beta().receive(server, Bytes(room->ring.data() + room->taken, Ring::kBytes - room->taken), false, net.now);
      if (n) room->taken += *n;
      return room->taken >= size;
    });
  }
  std::string in_room() const { return {reinterpret_cast<const char*>(room->ring.data()), static_cast<std::size_t>(room->taken)}; }

  TwoHosts net;
  Ring ring;
  std::shared_ptr<Room> room = std::make_shared<Room>();
  SocketId client = 0, server = 0;
  int written_from_ring = 0, written_from_elsewhere = 0, read_to_room = 0, read_elsewhere = 0;
  std::function<void()> on_extent_write;
};

TEST_F(LentMemory, IsWrittenFromWhereItLiesAndComesBackWhenThePeerHasIt) {
  lend_all(1'000'000);
  EXPECT_GT(alpha().lent(client), 0u);
  net.alpha.told[client] = 0;
  EXPECT_TRUE(receive(1'000'000) == pattern(0, 1'000'000));
  ASSERT_TRUE(net.run_until([&] { return alpha().lent(client) == 0; }));
  EXPECT_NE(net.alpha.told[client] & Ready::kReturned, 0u);
  EXPECT_GE(written_from_ring, 4);
  EXPECT_EQ(written_from_elsewhere, 0);
  EXPECT_EQ(alpha().counters().extents_lent, static_cast<std::uint64_t>(written_from_ring));
}

// Whoever gets it back too early writes it anew while it may have to be written once more.
TEST_F(LentMemory, IsNeededUntilThePeerHasVerifiedIt) {
  net.beta.medium.holds = true;  // the peer sees nothing
  lend_all(512 * 1024);
  net.run(20 * kMillisecond);
  ASSERT_GE(written_from_ring, 2);
  EXPECT_EQ(alpha().lent(client), 512u * 1024);
  net.beta.medium.holds = false;
  EXPECT_TRUE(receive(512 * 1024) == pattern(0, 512 * 1024));
}

TEST_F(LentMemory, OfAnySizeAndPlaceArrivesWhole) {
  std::size_t done = 0;
  std::string got;
  for (const std::size_t size : {1u, 4095u, 4097u, 30'000u, 5u, 70'001u, 16'384u, 300'000u, 3u, 65'536u, 260'000u, 12'345u}) {
    lend_all(done + size, done, 40'000);
    got += receive(size);
    done += size;
    net.run(2 * kMillisecond);
  }
  EXPECT_TRUE(got == pattern(0, done));
  EXPECT_GT(written_from_ring, 0);
  ASSERT_TRUE(net.run_until([&] { return alpha().lent(client) == 0; }));
}

// A few bytes that were meant for an extent, and a loan behind them: they would be too few for one, and never grow.
TEST_F(LentMemory, LeavesNothingBehindThatWasCopiedInFrontOfIt) {
  const std::string first = pattern(0, 19 * 1024);
  for (std::size_t at = 0; at < first.size(); at += 1024) ASSERT_TRUE(alpha().send(client, std::as_bytes(std::span(first)).subspan(at, 1024), net.now));
  ASSERT_EQ(lend(kExtentBytes, 64 * 1024), 64u * 1024);
  EXPECT_TRUE(receive(first.size() + 64 * 1024) == first + pattern(kExtentBytes, 64 * 1024));
}

TEST_F(LentMemory, IsCopiedWhereItIsTooLittleToKeepADeviceBusy) {
  ASSERT_EQ(lend(0, 1'000'000, 2u << 20), 1'000'000u);
  EXPECT_EQ(alpha().lent(client), 0u);
  EXPECT_TRUE(receive(1'000'000) == pattern(0, 1'000'000));
  EXPECT_EQ(written_from_ring, 0);
}

TEST_F(LentMemory, ThatItsOwnerChangesIsFoundOnceAndCopiedFromThenOn) {
  bool changed = false;
  on_extent_write = [&] {
    if (!std::exchange(changed, true)) ring.data()[100'000] ^= std::byte{1};  // behind its hash
  };
  lend_all(512 * 1024);
  const std::string got = receive(512 * 1024);
  EXPECT_TRUE(got == pattern(0, 512 * 1024));  // as it is now
  EXPECT_EQ(alpha().counters().extents_renewed, 1u);
  const int before = written_from_ring;
  lend_all(1024 * 1024, 512 * 1024);
  EXPECT_TRUE(receive(512 * 1024) == pattern(512 * 1024, 512 * 1024));
  EXPECT_EQ(written_from_ring, before);
  EXPECT_GT(written_from_elsewhere, 0);
}

// However often it changes: each extent is verified at the second attempt, and the peer reads no more for it than for a bad disk.
TEST_F(LentMemory, ThatItsOwnerKeepsChangingIsWrittenTwice) {
  on_extent_write = [&] {
    for (std::size_t i = 0; i < Ring::kBytes; i += 4096) ring.data()[i] ^= std::byte{1};
  };
  lend_all(1024 * 1024);
  EXPECT_EQ(receive(1024 * 1024).size(), 1024u * 1024);
  EXPECT_LE(alpha().counters().extents_renewed, 4u);
  EXPECT_LE(written_from_ring, 5);
}

// A lender that could do with its memory, or has less than a block left, hears of it before the peer has anything.
TEST_F(LentMemory, TellsWhenLessThanABlockMayBeTaken) {
  net.beta.medium.holds = true;
  const std::size_t taken = lend(0, 100'000);
  ASSERT_EQ(taken, 24u * 4096);
  ASSERT_EQ(lend(taken, 100'000 - taken), 0u);
  net.alpha.told[client] = 0;
  net.run(5 * kMillisecond);
  EXPECT_NE(net.alpha.told[client] & Ready::kReturned, 0u);
  EXPECT_EQ(lend(taken, 100'000 - taken), 100'000 - taken);
  net.beta.medium.holds = false;
  EXPECT_TRUE(receive(100'000) == pattern(0, 100'000));
}

TEST_F(LentMemory, ComesBackAtOnceWhenItGoesInPackets) {
  net.beta.medium.holds = true;
  net.alpha.told[client] = 0;
  ASSERT_EQ(lend(0, 16 * 1024), 16u * 1024);
  net.run(5 * kMillisecond);
  EXPECT_EQ(alpha().lent(client), 0u);
  EXPECT_NE(net.alpha.told[client] & Ready::kReturned, 0u);
  net.beta.medium.holds = false;
  EXPECT_TRUE(receive(16 * 1024) == pattern(0, 16 * 1024));
}

TEST_F(LentMemory, IsNeededNoMoreWhenTheConnectionIsOver) {
  lend_all(512 * 1024);
  beta().close(server, true, net.now);
  ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kHangUp) != 0; }));
  ASSERT_TRUE(net.run_until([&] { return alpha().lent(client) == 0; }));
  EXPECT_EQ(ring.memory.use_count(), 1);
}

TEST_F(LentMemory, ReceivesWithoutACopy) {
  beta().land_in(server, room);
  lend_all(1024 * 1024);
  receive_in_room(1024 * 1024);
  EXPECT_TRUE(in_room() == pattern(0, 1024 * 1024));
  EXPECT_GE(read_to_room, 4);
  EXPECT_EQ(read_elsewhere, 0);
  EXPECT_EQ(beta().counters().extents_landed, static_cast<std::uint64_t>(read_to_room));
}

// The sender's extents end at blocks of the stream, whatever it began with; one host that copies serves the other that does not.
TEST_F(LentMemory, ReceivesWithoutACopyBehindAHeader) {
  beta().land_in(server, room);
  ASSERT_TRUE(alpha().send(client, {ring.data(), 100}, net.now));
  receive_in_room(100);
  std::size_t sent = 100;
  while (sent < 1'500'000) {
    const auto n = alpha().send(client, {ring.data() + sent, 1'500'000 - sent}, net.now);
    if (n) sent += *n;
    net.run(kMillisecond);
  }
  receive_in_room(sent);
  EXPECT_TRUE(in_room() == pattern(0, sent));
  EXPECT_GE(read_to_room, 3);
}

TEST_F(LentMemory, ThatIsWrittenToWhileItReceivesIsReadForElsewhere) {
  beta().land_in(server, room);
  bool spoilt = false;
  net.beta.medium.reaped = [&](std::uint64_t) {
    if (read_to_room > 0 && !std::exchange(spoilt, true)) std::memset(room->ring.data(), 0, Ring::kBytes);
  };
  lend_all(1024 * 1024);
  receive_in_room(1024 * 1024);
  EXPECT_TRUE(in_room() == pattern(0, 1024 * 1024));
  EXPECT_GT(beta().counters().damaged_extents, 0u);
  EXPECT_GT(read_elsewhere, 0);
}

}  // namespace
}  // namespace stp
