#include "stp/engine.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/engine_fixture.h"

namespace stp {
namespace {

using test::EngineTest;
using test::Host;
using test::MemoryMedium;
using test::TwoHosts;
using test::bytes;

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
