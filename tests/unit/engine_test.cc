#include "stp/engine.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/two_hosts.h"

namespace stp {
namespace {

using test::Host;
using test::MemoryMedium;
using test::TwoHosts;
using test::bytes;

class EngineTest : public ::testing::Test {
 protected:
  // A connected pair: client on alpha, server on beta.
  void connect_pair(bool accepted = true) {
    listener = beta().open(net.now).value();
    ASSERT_EQ(beta().bind(listener, 7).value(), 7);
    ASSERT_TRUE(beta().listen(listener, 5));
    client = alpha().open(net.now).value();
    const auto pending = alpha().connect(client, {"beta", "", 7}, false, net.now);
    ASSERT_EQ(pending.error().code, EINPROGRESS);
    ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
    ASSERT_EQ(alpha().info(client)->error.code, 0);
    if (accepted) server = beta().accept(listener, net.now).value();
  }
  void connect_again() {
    client = alpha().open(net.now).value();
    ASSERT_EQ(alpha().connect(client, {"beta", "", 7}, false, net.now).error().code, EINPROGRESS);
    ASSERT_TRUE(net.run_until([&] { return (beta().info(listener)->ready & Ready::kRead) != 0; }));
  }
  Engine& alpha() { return *net.alpha.engine; }
  Engine& beta() { return *net.beta.engine; }

  std::string pattern(std::size_t size) {
    std::string out(size, '\0');
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>((i * 2654435761u) >> 13);
    return out;
  }
  // Sends all of `text` from alpha and takes it at beta until the end of the stream.
  std::string stream(const std::string& text) {
    std::string got;
    std::size_t sent = 0;
    bool end = false;
    net.run_until(
        [&] {
          if (sent < text.size()) {
            const auto n = alpha().send(client, bytes(std::string_view(text).substr(sent)), net.now);
            if (n) sent += *n;
          } else if (!end) {
            end = true;
            EXPECT_TRUE(alpha().shut(client, false, true, net.now));
          }
          std::string part(64 * 1024, '\0');
          const auto n = beta().receive(server, std::as_writable_bytes(std::span(part)), false, net.now);
          if (n) got.append(part, 0, *n);
          return n && *n == 0;
        },
        60 * kSecond);
    return got;
  }

  // Alpha has closed, and reads nothing from the disk from then on; beta has had everything up to the end.
  // The first `lost` writes of beta after alpha's close come to nothing.
  void beta_reads_all_but_has_not_closed(int lost = 0) {
    connect_pair();
    ASSERT_TRUE(beta().shut(server, false, true, net.now));
    ASSERT_TRUE(alpha().send(client, bytes("0123456789"), net.now));
    net.run(50 * kMillisecond);
    net.beta.medium.fault = [this, lost](const IoRequest& r) {
      return r.op == IoRequest::Op::kWrite && swallowed < lost ? (++swallowed, MemoryMedium::kSwallow) : 0;
    };
    alpha().close(client, false, net.now);
    net.run(kMillisecond);
    ASSERT_EQ(net.alpha.told[client] & Ready::kDrained, 0u);
    net.alpha.medium.fault = [](const IoRequest& r) { return r.op == IoRequest::Op::kRead ? EIO : 0; };
    net.run(30 * kMillisecond);
    std::array<std::byte, 16> in{};
    ASSERT_EQ(*beta().receive(server, in, false, net.now), 10u);
    ASSERT_EQ(*beta().receive(server, in, false, net.now), 0u);
    net.alpha.told[client] = 0;
  }
  // Alpha's engine writes to no block behind its own extents.
  bool writes_extent(const IoRequest& r) const { return r.op == IoRequest::Op::kWrite && r.block >= net.superblock.geometry.extent(0, 0); }
  // Of what alpha writes of extents the first `times` writes come to nothing.
  void damage_extents(int times) {
    net.alpha.medium.fault = [this, times, damaged = 0](const IoRequest& r) mutable {
      return writes_extent(r) && damaged++ < times ? MemoryMedium::kSwallow : 0;
    };
  }
  void send_and_close(const std::string& text) {
    ASSERT_EQ(alpha().send(client, bytes(text), net.now), text.size());
    alpha().close(client, false, net.now);
    net.alpha.told[client] = 0;  // what comes now is about the close alone
  }
  void expect_close_to_tell_of_a_loss() {
    ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
    EXPECT_NE(net.alpha.told[client] & Ready::kHangUp, 0u) << "all arrived, it says";
  }
  int connecting_to_beta() {
    const SocketId s = alpha().open(net.now).value();
    return alpha().connect(s, {"beta", "", 9}, false, net.now).error().code;
  }

  TwoHosts net;
  SocketId listener = 0, client = 0, server = 0;
  int swallowed = 0;
};

TEST_F(EngineTest, ConnectsAndExchangesAFewBytes) {
  connect_pair();
  EXPECT_EQ(*alpha().send(client, bytes("hello"), net.now), 5u);
  ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 5; }));
  std::array<std::byte, 16> in{};
  EXPECT_EQ(*beta().receive(server, in, true, net.now), 5u);
  EXPECT_EQ(*beta().receive(server, in, false, net.now), 5u);
  EXPECT_EQ(std::memcmp(in.data(), "hello", 5), 0);
  EXPECT_EQ(beta().receive(server, in, false, net.now).error().code, EAGAIN);
  EXPECT_EQ(beta().info(server)->peer, (Address{"alpha", "test", alpha().info(client)->local.port}));
}

TEST_F(EngineTest, StreamsBulkDataUnalteredToItsEnd) {
  connect_pair();
  const std::string text = pattern(5'000'001);
  EXPECT_EQ(stream(text), text);
  EXPECT_GE(alpha().counters().extents_sent, 10u);  // the first windows fit into packets only
}

TEST_F(EngineTest, ClosesWhenEverythingIsAcknowledged) {
  connect_pair();
  ASSERT_TRUE(alpha().send(client, bytes("last words"), net.now));
  alpha().close(client, false, net.now);
  EXPECT_TRUE(alpha().closing(client));
  ASSERT_TRUE(net.run_until([&] { return !alpha().closing(client); }, 100 * kMillisecond));
  std::array<std::byte, 16> in{};
  EXPECT_EQ(*beta().receive(server, in, false, net.now), 10u);
  EXPECT_EQ(*beta().receive(server, in, false, net.now), 0u);
}

TEST_F(EngineTest, RefusesWhereNobodyListensAndWhenTheQueueIsFull) {
  const SocketId lonely = alpha().open(net.now).value();
  alpha().connect(lonely, {"beta", "", 9}, false, net.now).error();
  ASSERT_TRUE(net.run_until([&] { return (alpha().info(lonely)->ready & Ready::kConnect) != 0; }));
  EXPECT_EQ(alpha().take_error(lonely).code, ECONNREFUSED);

  const SocketId l = beta().open(net.now).value();
  ASSERT_TRUE(beta().bind(l, 8));
  ASSERT_TRUE(beta().listen(l, 2));
  std::vector<SocketId> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(alpha().open(net.now).value());
    alpha().connect(clients.back(), {"beta", "", 8}, false, net.now).error();
    ASSERT_TRUE(net.run_until([&] { return (alpha().info(clients.back())->ready & Ready::kConnect) != 0; }));
  }
  EXPECT_EQ(alpha().info(clients[1])->error.code, 0);
  EXPECT_EQ(alpha().info(clients[2])->error.code, ECONNREFUSED);
  EXPECT_EQ(alpha().info(clients[2])->error.reason, Reason::kBacklogFull);
}

// An OPEN to oneself that travelled over the disk would meet the listener that comes right after it.
TEST_F(EngineTest, RefusesAtOnceWhereNobodyListensAtHome) {
  const SocketId s = alpha().open(net.now).value();
  alpha().connect(s, {"alpha", "", 8}, false, net.now).error();
  const SocketId l = alpha().open(net.now).value();
  ASSERT_TRUE(alpha().bind(l, 8));
  ASSERT_TRUE(alpha().listen(l, 2));
  ASSERT_NE(alpha().info(s)->ready & Ready::kConnect, 0u);
  EXPECT_EQ(alpha().take_error(s).code, ECONNREFUSED);
  alpha().connect(s, {"alpha", "", 8}, false, net.now).error();
  ASSERT_TRUE(net.run_until([&] { return (alpha().info(s)->ready & Ready::kConnect) != 0; }));
  EXPECT_EQ(alpha().take_error(s).code, 0);
}

TEST_F(EngineTest, KnowsUnknownFromDeadHosts) {
  const SocketId s = alpha().open(net.now).value();
  EXPECT_EQ(alpha().connect(s, {"gamma", "", 9}, false, net.now).error().code, EHOSTUNREACH);
  net.post(net.alpha, MemberState::kMember, PeerState::kDead);
  net.run(kMillisecond);
  EXPECT_EQ(alpha().connect(s, {"beta", "", 9}, false, net.now).error().code, EHOSTDOWN);
}

TEST_F(EngineTest, DeadPeerResetsButWhatHadArrivedIsDelivered) {
  connect_pair();
  ASSERT_TRUE(beta().send(server, bytes("abc"), net.now));
  ASSERT_TRUE(net.run_until([&] { return alpha().info(client)->readable_bytes == 3; }));
  net.post(net.alpha, MemberState::kMember, PeerState::kDead);
  net.run(kMillisecond);
  std::array<std::byte, 16> in{};
  EXPECT_EQ(*alpha().receive(client, in, false, net.now), 3u);
  EXPECT_EQ(alpha().receive(client, in, false, net.now).error().code, ECONNRESET);
  EXPECT_EQ(alpha().send(client, bytes("x"), net.now).error().code, EPIPE);
}

TEST_F(EngineTest, LostPacketsAreWrittenAgain) {
  connect_pair();
  int lost = 0;
  const Geometry& g = net.superblock.geometry;
  net.alpha.medium.fault = [&](const IoRequest& r) {
    const bool packet = r.op == IoRequest::Op::kWrite && r.block >= g.ring(0, 1) && r.block < g.ring(0, 1) + g.ring_blocks;
    return packet && lost++ < 3 ? MemoryMedium::kSwallow : 0;
  };
  const std::string text = pattern(40'000);
  EXPECT_EQ(stream(text), text);
  EXPECT_GT(alpha().counters().packets_rewritten, 0u);
}

TEST_F(EngineTest, DamagedExtentsAreWrittenAgainElsewhere) {
  connect_pair();
  damage_extents(2);
  const std::string text = pattern(3'000'000);
  EXPECT_EQ(stream(text), text);
  EXPECT_EQ(alpha().counters().extents_renewed, 2u);
}

// A disk that damages a good part of what is written is slow, and no more than that.
TEST_F(EngineTest, AnExtentDamagedTimeAndAgainArrives) {
  connect_pair();
  damage_extents(6);
  const std::string text = pattern(200'000);
  EXPECT_EQ(stream(text), text);
  EXPECT_EQ(alpha().counters().extents_renewed, 6u);
}

TEST_F(EngineTest, AnExtentThatIsDamagedWhereverItIsWrittenEndsTheConnection) {
  connect_pair();
  damage_extents(1'000'000);
  ASSERT_TRUE(alpha().send(client, bytes(pattern(200'000)), net.now));
  ASSERT_TRUE(net.run_until([&] { return (beta().info(server)->ready & Ready::kRead) != 0; }));
  std::string in(1000, '\0');
  const auto n = beta().receive(server, std::as_writable_bytes(std::span(in)), false, net.now);
  ASSERT_FALSE(n);
  EXPECT_EQ(n.error().code, ECONNRESET);
  EXPECT_EQ(n.error().reason, Reason::kDamaged);
}

// What a host wrote before its lease said that it left is there to be read, however late somebody comes to read it.
TEST_F(EngineTest, TheLastWordsOfAHostThatLeftAreTaken) {
  beta_reads_all_but_has_not_closed();
  beta().close(server, false, net.now);
  net.run(100 * kMillisecond);
  ASSERT_TRUE(beta().drained());
  ASSERT_EQ(net.alpha.told[client] & Ready::kDrained, 0u);
  net.alpha.medium.fault = nullptr;
  net.post(net.alpha, MemberState::kMember, PeerState::kLeft);
  ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
  EXPECT_EQ(net.alpha.told[client] & Ready::kHangUp, 0u) << "not everything arrived, it says";
  EXPECT_EQ(connecting_to_beta(), EHOSTDOWN);
}

// Who lingers for it looks at its ring, and at its gates later.
TEST_F(EngineTest, AnEndIsAcknowledgedInAPacketThoughTheProgramDoesNothing) {
  connect_pair();
  const Geometry& g = net.superblock.geometry;
  for (Host* host : {&net.alpha, &net.beta}) {
    const std::uint64_t gates = g.gate(host->identity.slot, 0);
    host->medium.fault = [=](const IoRequest& r) { return r.op == IoRequest::Op::kRead && r.block >= gates && r.block < gates + g.hosts ? EIO : 0; };
  }
  alpha().close(client, false, net.now);
  net.run(kMillisecond);
  EXPECT_NE(net.alpha.told[client] & Ready::kDrained, 0u);
  beta().close(server, false, net.now);
  net.run(kMillisecond);
  EXPECT_NE(net.beta.told[server] & Ready::kDrained, 0u) << "the second to end";
}

// The last slot is not in use any more when its host has left.
TEST_F(EngineTest, AHostThatLeftIsGivenUpAsSoonAsItsLastWordsWereTaken) {
  connect_pair();
  net.alpha.told[client] = 0;
  net.post(net.alpha, MemberState::kMember, PeerState::kLeft, 1);
  ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kHangUp) != 0; }, 100 * kMillisecond));
  EXPECT_EQ(alpha().take_error(client).reason, Reason::kHostLeft);
}

// A peer that left, and whose words can not be read, is given up all the same.
TEST_F(EngineTest, AHostThatLeftIsNotListenedToForEver) {
  beta_reads_all_but_has_not_closed();
  net.post(net.alpha, MemberState::kMember, PeerState::kLeft);
  ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }, 2 * kSecond));
  EXPECT_NE(net.alpha.told[client] & Ready::kHangUp, 0u);
}

// On a disk that loses writes nobody is there to write a packet again once its host has left.
TEST_F(EngineTest, WhoLeavesWaitsUntilItsLastWordsWereTaken) {
  beta_reads_all_but_has_not_closed(4);
  net.alpha.medium.fault = nullptr;
  beta().close(server, false, net.now);
  beta().shut_down(net.now);
  ASSERT_TRUE(net.run_until([&] { return beta().drained(); }));
  EXPECT_EQ(net.alpha.told[client] & (Ready::kDrained | Ready::kHangUp), Ready::kDrained);
  EXPECT_EQ(swallowed, 4);
}

// Its reset comes ahead of its acknowledgement: beta can not write until it has come to both.
TEST_F(EngineTest, ACloseIsContentWithAPeerThatReadToTheEndAndAbortsAtOnce) {
  connect_pair();
  for (const std::size_t size : {std::size_t{10}, std::size_t{200'000}}) {
    const auto extents = alpha().counters().extents_sent;
    ASSERT_EQ(alpha().send(client, bytes(pattern(size)), net.now), size);
    alpha().close(client, false, net.now);
    net.alpha.told[client] = 0;  // what comes now is about the close alone
    net.beta.board.post_lease(0);
    std::string got(size, '\0');
    std::size_t end = 0;
    ASSERT_TRUE(net.run_until([&] {
      const auto n = beta().receive(server, std::as_writable_bytes(std::span(got)).subspan(end), false, net.now);
      if (n) end += *n;
      return end == size;
    }));
    std::byte more{};
    ASSERT_TRUE(net.run_until([&] { return beta().receive(server, {&more, 1}, false, net.now).value_or(1) == 0; }));
    beta().close(server, true, net.now);
    EXPECT_EQ(net.alpha.told[client] & Ready::kDrained, 0u) << "too early for this test";
    net.beta.board.post_lease(kNever);
    ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
    EXPECT_EQ(net.alpha.told[client] & Ready::kHangUp, 0u) << size << ": not everything arrived, it says";
    EXPECT_EQ(alpha().counters().extents_sent > extents, size > 10);
    connect_again();
    server = beta().accept(listener, net.now).value();
    ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
  }
}

// What a reset cuts off is lost.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsBeforeAllHadArrived) {
  connect_pair();
  ASSERT_EQ(alpha().send(client, bytes(pattern(200'000)), net.now), 200'000u);
  alpha().close(client, false, net.now);
  net.alpha.told[client] = 0;
  beta().close(server, true, net.now);
  ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
  EXPECT_NE(net.alpha.told[client] & Ready::kHangUp, 0u);
}

// Its engine takes the packet all the same, and acknowledges that.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsWhileTheBytesAreOnTheirWay) {
  connect_pair();
  net.run(5 * kMillisecond);
  net.beta.medium.holds = true;  // what beta asks the disk for comes back later
  send_and_close("0123456789");
  const auto taken = beta().counters().messages_taken;
  net.run(3 * kMillisecond);
  ASSERT_EQ(beta().counters().messages_taken, taken);
  beta().close(server, true, net.now);
  net.beta.medium.holds = false;
  expect_close_to_tell_of_a_loss();
}

TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortedBeforeAnythingWasSent) {
  connect_pair();
  net.beta.board.post_lease(0);
  beta().close(server, true, net.now);
  net.run(kMillisecond);
  send_and_close("0123456789");
  net.run(20 * kMillisecond);
  net.beta.board.post_lease(kNever);
  expect_close_to_tell_of_a_loss();
}

TEST_F(EngineTest, ACloseTellsOfAPeerThatHadNotAcceptedYet) {
  connect_pair(false);
  net.run(5 * kMillisecond);
  net.beta.medium.holds = true;
  send_and_close("0123456789");
  net.run(3 * kMillisecond);
  beta().close(listener, false, net.now);
  net.beta.medium.holds = false;
  expect_close_to_tell_of_a_loss();
}

// Gates overtake the ring for as long as writes to it take.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsWhileItsRingIsSlow) {
  connect_pair();
  net.run(5 * kMillisecond);
  const Geometry& g = net.superblock.geometry;
  const std::uint64_t ring = g.packet(1, 0, 1);
  net.beta.medium.slow = [=](const IoRequest& r) { return r.op == IoRequest::Op::kWrite && r.block >= ring && r.block < ring + g.ring_blocks; };
  for (const char* const text : {"a", "b"}) {  // as many writes as there may be at once
    ASSERT_TRUE(beta().send(server, bytes(text), net.now));
    net.tick();
  }
  beta().close(server, true, net.now);
  net.tick();
  send_and_close("0123456789");
  net.run(400 * kMillisecond);
  EXPECT_EQ(net.alpha.told[client] & Ready::kDrained, 0u);
  net.beta.medium.land_late();
  expect_close_to_tell_of_a_loss();
}

// All is in its memory, and thrown away.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsWithoutHavingReadAll) {
  connect_pair();
  net.run(5 * kMillisecond);
  net.beta.board.post_lease(0);
  send_and_close("0123456789");
  ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 10; }));
  net.run(kMillisecond);
  beta().close(server, true, net.now);
  net.beta.board.post_lease(kNever);
  expect_close_to_tell_of_a_loss();
}

// What it closes over is dropped, though it is all there.
TEST_F(EngineTest, ACloseTellsOfAPeerThatClosedWithoutHavingReadAllAndAborts) {
  connect_pair();
  net.run(5 * kMillisecond);
  net.beta.board.post_lease(0);
  send_and_close("0123456789");
  ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 10; }));
  net.run(kMillisecond);
  beta().close(server, false, net.now);
  beta().close(server, true, net.now);
  net.beta.board.post_lease(kNever);
  expect_close_to_tell_of_a_loss();
}

// Both have said their end, and one of them hears nothing of what came before it.
TEST_F(EngineTest, WhoHasSaidItsEndIsToldOfAPeerThatAborts) {
  connect_pair();
  ASSERT_TRUE(beta().shut(server, false, true, net.now));
  net.run(20 * kMillisecond);
  std::byte nothing{};
  ASSERT_EQ(alpha().receive(client, {&nothing, 1}, false, net.now).value_or(7), 0u);
  net.beta.medium.holds = true;
  ASSERT_EQ(alpha().send(client, bytes("0123456789"), net.now), 10u);
  ASSERT_TRUE(alpha().shut(client, false, true, net.now));
  net.run(3 * kMillisecond);
  ASSERT_EQ(beta().info(server)->readable_bytes, 0u);
  beta().close(server, true, net.now);
  net.beta.medium.holds = false;
  net.run(100 * kMillisecond);
  EXPECT_EQ(alpha().info(client)->state, ScbState::kClosed);
  EXPECT_EQ(alpha().take_error(client).code, ECONNRESET);
}

TEST_F(EngineTest, AHostTalksToItself) {
  const SocketId l = alpha().open(net.now).value();
  ASSERT_TRUE(alpha().bind(l, 9));
  ASSERT_TRUE(alpha().listen(l, 1));
  const SocketId c = alpha().open(net.now).value();
  alpha().connect(c, {"", "", 9}, false, net.now).error();
  ASSERT_TRUE(net.run_until([&] { return (alpha().info(l)->ready & Ready::kRead) != 0; }));
  const SocketId a = alpha().accept(l, net.now).value();
  ASSERT_TRUE(net.run_until([&] { return alpha().send(c, bytes("me"), net.now).has_value(); }));
  ASSERT_TRUE(net.run_until([&] { return alpha().info(a)->readable_bytes == 2; }));
}

TEST_F(EngineTest, FullRingsBothWaysDoNotDeadlock) {
  connect_pair();
  const std::string text = pattern(300'000);
  std::size_t sent[2] = {0, 0}, got[2] = {0, 0};
  std::string in(5000, '\0');
  const auto pump = [&](Engine& e, SocketId s, int i) {
    // Small sends, so that everything travels in packets.
    for (int k = 0; k < 20 && sent[i] < text.size(); ++k) {
      const auto n = e.send(s, bytes(std::string_view(text).substr(sent[i], 700)), net.now);
      if (n) sent[i] += *n;
    }
    const auto n = e.receive(s, std::as_writable_bytes(std::span(in)), false, net.now);
    if (!n) return;
    ASSERT_EQ(in.substr(0, *n), text.substr(got[i], *n));
    got[i] += *n;
  };
  EXPECT_TRUE(net.run_until(
      [&] {
        pump(alpha(), client, 0);
        pump(beta(), server, 1);
        return got[0] == text.size() && got[1] == text.size();
      },
      60 * kSecond));
}

// What waits in memory between the program and the device falls out of the processor's caches when each of many has as much as one alone.
TEST_F(EngineTest, StreamsThatMoveTogetherShareOneSendersMemory) {
  struct Pair {
    SocketId from, to;
  };
  connect_pair();
  std::vector<Pair> pairs{{client, server}};
  while (pairs.size() < 8) {
    connect_again();
    pairs.push_back({client, beta().accept(listener, net.now).value()});
  }
  const std::vector<std::byte> chunk(256 * 1024);
  const auto send_all_it_takes = [&](SocketId from) {
    std::size_t taken = 0;
    while (const auto n = alpha().send(from, chunk, net.now)) taken += *n;
    return taken;
  };
  const auto receive_all = [&](SocketId to, std::size_t size) {
    std::vector<std::byte> into(1 << 20);
    return net.run_until([&] {
      while (size > 0) {
        const auto n = beta().receive(to, into, false, net.now);
        if (!n) return false;
        size -= *n;
      }
      return true;
    });
  };
  const auto exchange_for_a_while = [&](std::span<const Pair> some) {
    for (const Nanos end = net.now + 200 * kMillisecond; net.now < end;) {
      for (const Pair& pair : some) ASSERT_EQ(*alpha().send(pair.from, chunk, net.now), chunk.size());
      for (const Pair& pair : some) ASSERT_TRUE(receive_all(pair.to, chunk.size()));
      ASSERT_TRUE(net.run_until([&] { return std::ranges::all_of(some, [&](const Pair& pair) { return alpha().info(pair.from)->unacknowledged_bytes == 0; }); }));
    }
  };
  EXPECT_EQ(send_all_it_takes(pairs[0].from), 8u << 20);
  ASSERT_TRUE(receive_all(pairs[0].to, 8u << 20));
  exchange_for_a_while(pairs);
  for (const Pair& pair : pairs) EXPECT_EQ(send_all_it_takes(pair.from), 1u << 20);
  for (const Pair& pair : pairs) ASSERT_TRUE(receive_all(pair.to, 1u << 20));
  // The others rest: one has it all again, whether they are there or not.
  exchange_for_a_while(std::span(pairs).first(1));
  EXPECT_EQ(send_all_it_takes(pairs[0].from), 8u << 20);
}

// Writes are paced by what the receivers achieve, in bytes: counted as whole extents, small ones made each other slower and slower.
TEST_F(EngineTest, SmallExtentsKeepTheirPace) {
  connect_pair();
  std::vector<std::pair<SocketId, SocketId>> pairs{{client, server}};
  while (pairs.size() < 8) {
    connect_again();
    pairs.emplace_back(client, beta().accept(listener, net.now).value());
  }
  const std::vector<std::byte> chunk(20 * 1024);
  std::vector<std::byte> into(1 << 20);
  const auto bytes_moved_in = [&](Nanos span) {
    std::size_t moved = 0;
    for (const Nanos end = net.now + span; net.now < end; net.tick()) {
      for (const auto& [from, to] : pairs) {
        if (alpha().info(from)->unacknowledged_bytes == 0) (void)alpha().send(from, chunk, net.now);
        if (const auto n = beta().receive(to, into, false, net.now)) moved += *n;
      }
    }
    return moved;
  };
  const std::size_t at_first = bytes_moved_in(40 * kMillisecond);
  (void)bytes_moved_in(400 * kMillisecond);
  EXPECT_GT(alpha().counters().extents_sent, 100u);
  EXPECT_GT(bytes_moved_in(40 * kMillisecond), at_first / 2);
}

TEST_F(EngineTest, AStreamWhosePeerDoesNotReadKeepsNobodyElseFromItsMemory) {
  connect_pair();
  const SocketId stuck = client;
  connect_again();
  ASSERT_TRUE(beta().accept(listener, net.now));
  ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
  const std::vector<std::byte> chunk(256 * 1024);
  const auto send_all_it_takes = [&](SocketId from) {
    std::size_t taken = 0;
    while (const auto n = alpha().send(from, chunk, net.now)) taken += *n;
    return taken;
  };
  EXPECT_EQ(send_all_it_takes(stuck), 8u << 20);
  net.run(200 * kMillisecond);
  (void)send_all_it_takes(stuck);
  net.run(200 * kMillisecond);
  EXPECT_EQ(send_all_it_takes(client), 8u << 20);
}

// The same before anybody can know who will go on streaming.
TEST_F(EngineTest, StreamsThatBeginTogetherTakeNoMoreThanTheyNeed) {
  connect_pair();
  std::vector<SocketId> senders{client};
  while (senders.size() < 8) {
    connect_again();
    ASSERT_TRUE(beta().accept(listener, net.now));
    ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
    senders.push_back(client);
  }
  const std::vector<std::byte> chunk(256 * 1024);
  std::size_t all = 0;
  for (const SocketId sender : senders) {
    std::size_t taken = 0;
    while (const auto n = alpha().send(sender, chunk, net.now)) taken += *n;
    EXPECT_GE(taken, 512u << 10);
    all += taken;
  }
  EXPECT_LE(all, (8u << 20) + 7 * (512u << 10));
}

TEST_F(EngineTest, AStreamBeginsInExtentsAndNotInPackets) {
  connect_pair();
  const std::string text = pattern(8 << 20);
  EXPECT_EQ(stream(text), text);
  EXPECT_LE(alpha().counters().packets_sent, 100u);  // in packets alone it would take two thousand
}

// The device is not to wait for the processor.
TEST_F(EngineTest, TheNextReadsAreHandedInBeforeWhatArrivedIsChecked) {
  connect_pair();
  std::map<std::uint64_t, bool> extents;  // by token, in flight
  std::uint64_t arrived = 0;
  std::uint64_t most_unchecked = 0;
  net.beta.medium.fault = [&](const IoRequest& r) {
    const bool extent = r.op == IoRequest::Op::kRead && r.block >= net.superblock.geometry.extent(0, 0);
    extents[r.token] = extent;
    if (extent) most_unchecked = std::max(most_unchecked, arrived - beta().counters().extents_taken);
    return 0;
  };
  net.beta.medium.reaped = [&](std::uint64_t token) { arrived += extents[token]; };
  const std::string text = pattern(8 << 20);
  EXPECT_EQ(stream(text), text);
  EXPECT_GT(most_unchecked, 1u);
}

// Memory that another socket gave back is room for this one, which a thread may wait for while another one reads.
TEST(EngineMemory, RoomThatCameFreeElsewhereIsToldThoughSomebodyReadsFirst) {
  TwoHosts net(1u << 20);
  Engine& alpha = *net.alpha.engine;
  Engine& beta = *net.beta.engine;
  const SocketId listener = beta.open(net.now).value();
  ASSERT_TRUE(beta.bind(listener, 7));
  ASSERT_TRUE(beta.listen(listener, 5));
  SocketId from[2], to[2];
  for (int i = 0; i < 2; ++i) {
    from[i] = alpha.open(net.now).value();
    ASSERT_EQ(alpha.connect(from[i], {"beta", "", 7}, false, net.now).error().code, EINPROGRESS);
    ASSERT_TRUE(net.run_until([&] { return (beta.info(listener)->ready & Ready::kRead) != 0; }));
    to[i] = beta.accept(listener, net.now).value();
  }
  ASSERT_EQ(*beta.send(to[1], bytes("something"), net.now), 9u);
  ASSERT_TRUE(net.run_until([&] { return alpha.info(from[1])->readable_bytes == 9; }));
  const std::vector<std::byte> much(4 << 20);
  for (const SocketId each : from)
    while (alpha.send(each, much, net.now)) {
    }
  net.alpha.told.clear();
  alpha.close(from[0], true, net.now);  // its memory is free, and nothing of the other one has moved
  std::byte into[16];
  ASSERT_EQ(*alpha.receive(from[1], into, false, net.now), 9u);
  EXPECT_TRUE(net.run_until([&] { return (net.alpha.told[from[1]] & Ready::kWrite) != 0; }, kSecond));
}

// The conversation of who has its end acknowledged, and whose peer goes on, is over: it looks for nothing any more.
TEST_F(EngineTest, WhoseEndIsAcknowledgedLooksAtItsGatesNoMoreThanBefore) {
  connect_pair();
  net.run(kMillisecond);
  alpha().close(client, false, net.now);
  beta().close(server, false, net.now);  // both at once: each has an acknowledgement of the other's to send, which waits for its own
  net.run(kMillisecond);
  ASSERT_NE(net.alpha.told[client] & net.beta.told[server] & Ready::kDrained, 0u);
  const Geometry& g = net.superblock.geometry;
  int looks = 0;
  net.alpha.medium.fault = [&, gates = g.gate(net.alpha.identity.slot, 0)](const IoRequest& r) {
    looks += r.op == IoRequest::Op::kRead && r.block >= gates && r.block < gates + g.hosts ? 1 : 0;
    return 0;
  };
  net.run(15 * kMillisecond);
  EXPECT_LE(looks, 3);
}

// A look before the program's own answer would only delay that.
TEST_F(EngineTest, WhoTakesWhatCameIsGivenItsTurnBeforeTheNextLook) {
  connect_pair();
  net.run(kMillisecond);
  ASSERT_TRUE(alpha().send(client, bytes("question"), net.now));
  ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 8; }));
  const Geometry& g = net.superblock.geometry;
  const std::uint64_t ring = g.packet(net.alpha.identity.slot, net.beta.identity.slot, 1);
  int looks = 0;
  net.beta.medium.fault = [&](const IoRequest& r) {
    looks += r.op == IoRequest::Op::kRead && r.block >= ring && r.block < ring + g.ring_blocks ? 1 : 0;
    return 0;
  };
  std::array<std::byte, 8> in{};
  ASSERT_EQ(*beta().receive(server, in, false, net.now), 8u);
  beta().step(net.now);
  beta().step(net.now += 20 * kMicrosecond);
  EXPECT_EQ(looks, 0);
  beta().step(net.now += 20 * kMicrosecond);
  EXPECT_GE(looks, 1);
}

TEST_F(EngineTest, AnAnswerIsLookedForAtOnePlaceAndAFlowAtMore) {
  connect_pair();
  const Geometry& g = net.superblock.geometry;
  const std::uint64_t first = g.packet(net.beta.identity.slot, net.alpha.identity.slot, 1);
  std::uint32_t widest = 0;
  net.alpha.medium.fault = [&](const IoRequest& r) {
    if (r.op == IoRequest::Op::kRead && r.block >= first && r.block < first + g.ring_blocks) widest = std::max(widest, r.blocks);
    return 0;
  };
  char byte = 0;
  const auto pass = [&](Host& from, SocketId sender, Host& to, SocketId receiver) {
    EXPECT_TRUE(from.engine->send(sender, bytes("x"), net.now));
    from.medium.holds = true;  // the write takes its time
    net.tick();
    from.medium.holds = false;
    EXPECT_TRUE(net.run_until([&] { return to.engine->receive(receiver, std::as_writable_bytes(std::span(&byte, 1)), false, net.now).has_value(); }));
  };
  for (int exchange = 0; exchange < 20; ++exchange) {
    pass(net.alpha, client, net.beta, server);
    pass(net.beta, server, net.alpha, client);
    if (exchange == 0) widest = 0;
  }
  EXPECT_EQ(widest, 1u);
  net.alpha.medium.holds = true;  // its look takes longer than six packets
  for (int packet = 0; packet < 6; ++packet) {
    EXPECT_TRUE(beta().send(server, bytes("x"), net.now));
    net.tick();
    net.tick();
  }
  net.alpha.medium.holds = false;
  EXPECT_TRUE(net.run_until([&] { return alpha().info(client)->readable_bytes == 6; }));
  EXPECT_GE(widest, 2u);
}

TEST_F(EngineTest, ARefusedHostTalksToTheSamePeerInItsNextLife) {
  connect_pair();
  net.post(net.beta, MemberState::kMember, PeerState::kDead);  // beta's verdict on alpha reaches alpha by the gate
  ASSERT_TRUE(net.run_until([&] { return net.alpha.board.rebirth_wanted() == net.alpha.identity.incarnation; }));
  net.post(net.alpha, MemberState::kFenced, PeerState::kAlive);
  net.run(kMillisecond);
  net.alpha.identity.incarnation += 5;
  net.introduce();
  net.run(50 * kMillisecond);
  connect_again();
}

TEST_F(EngineTest, ALifeThatEndedUnseenIsQuiescedAtOnce) {
  net.alpha.identity.incarnation += 5;
  net.post(net.alpha, MemberState::kFenced, PeerState::kAlive);
  net.run(kMillisecond);
  EXPECT_EQ(net.alpha.board.quiesced_incarnation(), net.alpha.identity.incarnation);
}

TEST_F(EngineTest, TheSecondToCloseWaitsNoLongerThanTheFirst) {
  connect_pair();
  const auto closes = [&](Engine& host, SocketId socket) {
    const Nanos began = net.now;
    host.close(socket, false, net.now);
    EXPECT_TRUE(net.run_until([&] { return !host.info(socket).has_value(); }));
    return net.now - began;
  };
  EXPECT_LE(closes(alpha(), client), 5 * kMillisecond);
  EXPECT_LE(closes(beta(), server), 5 * kMillisecond);
}

// However slowly idle hosts look: the first request wakes the one, its answer finds the other awake.
TEST_F(EngineTest, AnAnswerFindsTheAskerAwake) {
  constexpr Nanos kSlowestLook = 100 * kMillisecond;
  connect_pair();
  alpha().set_poll_max(kSlowestLook);
  beta().set_poll_max(kSlowestLook);
  char byte = 0;
  const auto arrives_at = [&](Engine& host, SocketId socket) {
    return net.run_until([&] { return host.receive(socket, std::as_writable_bytes(std::span(&byte, 1)), false, net.now).has_value(); });
  };
  const auto exchange = [&](Engine& asker, SocketId asking, Engine& other, SocketId answering) {
    const Nanos began = net.now;
    EXPECT_TRUE(asker.send(asking, bytes("q"), net.now));
    EXPECT_TRUE(arrives_at(other, answering));
    EXPECT_TRUE(other.send(answering, bytes("a"), net.now));
    EXPECT_TRUE(arrives_at(asker, asking));
    return net.now - began;
  };
  for (int silence = 0; silence < 80; ++silence) {
    net.run(kSecond + silence * 7 * kMillisecond);
    const bool odd = silence % 2 != 0;  // whose look at the gates comes first matters
    const auto ask = [&] { return odd ? exchange(beta(), server, alpha(), client) : exchange(alpha(), client, beta(), server); };
    EXPECT_LE(ask(), kSlowestLook + 10 * kMillisecond) << "silence " << silence;
    EXPECT_LE(ask(), 10 * kMillisecond) << "silence " << silence;
  }
}

TEST_F(EngineTest, AnAnswerIsWorthSpinningForButNotAnExtent) {
  connect_pair();
  ASSERT_TRUE(alpha().send(client, bytes("q"), net.now));
  net.tick();
  EXPECT_TRUE(alpha().expects_soon(net.now));
  net.alpha.medium.fault = [&](const IoRequest& r) {
    net.alpha.medium.holds |= writes_extent(r);
    return 0;
  };
  const std::string much = pattern(1 << 20);
  ASSERT_TRUE(net.run_until([&] {
    std::string part(much.size(), '\0');
    (void)beta().receive(server, std::as_writable_bytes(std::span(part)), false, net.now);
    (void)alpha().send(client, bytes(much), net.now);
    return net.alpha.medium.holds;
  }));
  EXPECT_FALSE(alpha().expects_soon(net.now));
  net.alpha.medium.fault = nullptr;
  net.alpha.medium.holds = false;
  net.tick();
  EXPECT_TRUE(alpha().expects_soon(net.now));
}

TEST_F(EngineTest, ExtentsThatAreWrittenAtOnceAreNoNeighbours) {
  connect_pair();
  constexpr std::size_t kAtOnce = 4;
  std::vector<std::uint64_t> places;
  net.alpha.medium.fault = [&](const IoRequest& r) {
    if (writes_extent(r)) places.push_back(r.block);
    return 0;
  };
  const std::string sent = pattern(4 << 20);
  EXPECT_EQ(stream(sent), sent);
  ASSERT_GE(places.size(), 8u);
  for (std::size_t i = 0; i < places.size(); ++i)
    for (std::size_t j = i + 1; j < std::min(i + kAtOnce, places.size()); ++j) {
      const std::uint64_t apart = std::max(places[i], places[j]) - std::min(places[i], places[j]);
      EXPECT_NE(apart, net.superblock.geometry.extent_blocks) << "writes " << i << " and " << j;
    }
}

TEST_F(EngineTest, IdleHostsLookAtTheStorageRarely) {
  connect_pair();
  net.run(kSecond);
  const auto before = alpha().counters();
  net.run(10 * kSecond);
  const auto after = alpha().counters();
  EXPECT_LE(after.reads - before.reads, 1000u);
  EXPECT_EQ(after.writes, before.writes);
}

}  // namespace
}  // namespace stp
