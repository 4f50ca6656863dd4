// How conversations end: when a close is content, and when it tells of a loss.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <span>
#include <vector>

#include "tests/unit/engine_fixture.h"

namespace stp {
namespace {

using test::Host;
using test::MemoryMedium;
using test::bytes;

class EngineTest : public test::EngineTest {
 protected:
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
  void send_and_close(const std::string& text) {
    ASSERT_EQ(alpha().send(client, bytes(text), net.now), text.size());
    alpha().close(client, false, net.now);
    net.alpha.told[client] = 0;  // what comes now is about the close alone
  }
  void expect_close_to_tell_of_a_loss() {
    ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
    EXPECT_NE(net.alpha.told[client] & Ready::kHangUp, 0u) << "all arrived, it says";
  }
  // Alpha has sent and closed, all is in beta's memory, and beta can not write.
  void beta_has_all_unread_and_is_silent() {
    connect_pair();
    net.run(5 * kMillisecond);
    net.beta.board.post_lease(0);
    send_and_close("0123456789");
    ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 10; }));
    net.run(kMillisecond);
  }

  void expect_close_to_be_content() {
    ASSERT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
    EXPECT_EQ(net.alpha.told[client] & Ready::kHangUp, 0u) << "not everything arrived, it says";
  }
  // Its packets are on their way until they land late, and the reset in none of them yet.
  void beta_resets_in_a_slow_ring() {
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
  }
  // Another pair of sockets, with the same listener.
  void talk_anew() {
    connect_again();
    server = beta().accept(listener, net.now).value();
    ASSERT_TRUE(net.run_until([&] { return (alpha().info(client)->ready & Ready::kConnect) != 0; }));
  }

  int swallowed = 0;
};

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

// What a host wrote before its lease said that it left is there to be read, however late somebody comes to read it.
TEST_F(EngineTest, TheLastWordsOfAHostThatLeftAreTaken) {
  beta_reads_all_but_has_not_closed();
  beta().close(server, false, net.now);
  net.run(100 * kMillisecond);
  ASSERT_TRUE(beta().drained());
  ASSERT_EQ(net.alpha.told[client] & Ready::kDrained, 0u);
  net.alpha.medium.fault = nullptr;
  net.post(net.alpha, MemberState::kMember, PeerState::kLeft);
  expect_close_to_be_content();
  EXPECT_EQ(connecting_to_beta(), EHOSTDOWN);
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
    send_and_close(pattern(size));
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
    talk_anew();
  }
}

// What a reset cuts off is lost.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsBeforeAllHadArrived) {
  connect_pair();
  send_and_close(pattern(200'000));
  beta().close(server, true, net.now);
  expect_close_to_tell_of_a_loss();
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
  beta_resets_in_a_slow_ring();
  send_and_close("0123456789");
  net.run(400 * kMillisecond);
  EXPECT_EQ(net.alpha.told[client] & Ready::kDrained, 0u);
  net.beta.medium.land_late();
  expect_close_to_tell_of_a_loss();
}

// An acknowledgement that waits for a reset is one of sessions: room there is, or two full rings would wait for each other.
TEST_F(EngineTest, WhatWaitsForAResetMakesRoomInTheRing) {
  connect_pair();
  const SocketId other = client, other_server = server;
  talk_anew();
  beta_resets_in_a_slow_ring();
  std::string said, heard(4096, '\0');
  for (std::uint32_t i = 0; i < 3 * net.superblock.geometry.ring_blocks; ++i) {
    said += static_cast<char>('a' + i % 26);
    ASSERT_EQ(alpha().send(other, bytes(std::string_view(said).substr(i)), net.now).value_or(0), 1u);
    net.run(10 * kMillisecond);
  }
  const std::size_t n = beta().receive(other_server, std::as_writable_bytes(std::span(heard)), false, net.now).value_or(0);
  EXPECT_EQ(heard.substr(0, n), said);
  EXPECT_EQ(alpha().info(other)->unacknowledged_bytes, said.size()) << "the reset is not said yet";
  net.beta.medium.land_late();
  EXPECT_TRUE(net.run_until([&] { return alpha().info(other)->unacknowledged_bytes == 0; }));
}

// All is in its memory, and thrown away.
TEST_F(EngineTest, ACloseTellsOfAPeerThatAbortsWithoutHavingReadAll) {
  beta_has_all_unread_and_is_silent();
  beta().close(server, true, net.now);
  net.beta.board.post_lease(kNever);
  expect_close_to_tell_of_a_loss();
}

// What it closes over is dropped, though it is all there.
TEST_F(EngineTest, ACloseTellsOfAPeerThatClosedWithoutHavingReadAllAndAborts) {
  beta_has_all_unread_and_is_silent();
  beta().close(server, false, net.now);
  beta().close(server, true, net.now);
  net.beta.board.post_lease(kNever);
  expect_close_to_tell_of_a_loss();
}

// A close in good order says what it has to say before it resets: until then the peer learns that nothing of its own arrives any more.
TEST_F(EngineTest, ACloseTellsOfAPeerThatClosesWhileTheBytesAreOnTheirWay) {
  connect_pair();
  for (const std::size_t size : {std::size_t{10}, std::size_t{200'000}}) {
    net.run(5 * kMillisecond);
    net.beta.medium.holds = true;
    send_and_close(pattern(size));
    net.run(3 * kMillisecond);
    ASSERT_EQ(beta().info(server)->readable_bytes, 0u);
    beta().close(server, false, net.now);
    net.beta.medium.holds = false;
    expect_close_to_tell_of_a_loss();
    talk_anew();
  }
}

TEST_F(EngineTest, ACloseTellsOfAPeerWhoseProgramHasEndedAndWhoseHostStillSendsForIt) {
  connect_pair();
  net.run(5 * kMillisecond);
  net.beta.medium.holds = true;
  send_and_close("0123456789");
  net.run(3 * kMillisecond);
  beta().stop_reading(server, false, net.now);
  net.beta.medium.holds = false;
  expect_close_to_tell_of_a_loss();
}

// Of what had arrived before nothing is taken back.
TEST_F(EngineTest, ACloseIsContentWithAPeerThatClosesOverWhatHadArrived) {
  connect_pair();
  ASSERT_TRUE(alpha().send(client, bytes("0123456789"), net.now));
  ASSERT_TRUE(net.run_until([&] { return alpha().info(client)->unacknowledged_bytes == 0; }));
  ASSERT_TRUE(beta().send(server, bytes("answer"), net.now));
  beta().close(server, false, net.now);
  alpha().close(client, false, net.now);
  net.alpha.told[client] = 0;
  expect_close_to_be_content();
}

// What its program wished to be dropped, by shutting its reading, is no loss.
TEST_F(EngineTest, ACloseIsContentWithAPeerThatHasShutItsReadingAndClosesLater) {
  connect_pair();
  ASSERT_TRUE(beta().shut(server, true, false, net.now));
  send_and_close("0123456789");
  net.run(kMillisecond);
  beta().close(server, false, net.now);
  expect_close_to_be_content();
}

TEST_F(EngineTest, WhatAPeerSaidBeforeItClosedOverSomethingUnreadArrivesWholeAndThenItsReset) {
  connect_pair();
  const std::string answer = pattern(700'000);
  ASSERT_TRUE(alpha().send(client, bytes("0123456789"), net.now));
  ASSERT_TRUE(net.run_until([&] { return beta().info(server)->readable_bytes == 10; }));
  std::size_t said = 0;
  ASSERT_TRUE(net.run_until([&] {
    said += beta().send(server, bytes(std::string_view(answer).substr(said)), net.now).value_or(0);
    return said == answer.size();
  }));
  beta().close(server, false, net.now);
  std::string got;
  ASSERT_TRUE(net.run_until([&] {
    std::string part(64 * 1024, '\0');
    const auto n = alpha().receive(client, std::as_writable_bytes(std::span(part)), false, net.now);
    if (n) got.append(part, 0, *n);
    return got.size() == answer.size();
  }));
  EXPECT_EQ(got, answer);
  ASSERT_TRUE(net.run_until([&] { return alpha().info(client)->state == ScbState::kClosed; }));
  EXPECT_EQ(alpha().take_error(client).reason, Reason::kClosed);
}

// A program that is killed ends all that it had at once: that is many messages for its peer, and no fault of it.
TEST(ManyEnds, OfOneProgramLeaveTheConversationsOfOthersAlone) {
  constexpr std::size_t kMany = 20'000;
  test::TwoHosts net(256u << 20, true, 4096, 2 * kMany);
  Engine &alpha = *net.alpha.engine, &beta = *net.beta.engine;
  const SocketId listener = beta.open(net.now).value();
  ASSERT_TRUE(beta.bind(listener, 7));
  ASSERT_TRUE(beta.listen(listener, 4096));
  std::vector<SocketId> clients, servers;
  while (servers.size() < kMany) {
    while (clients.size() < std::min(kMany, servers.size() + 1000)) {
      clients.push_back(alpha.open(net.now).value());
      ASSERT_EQ(alpha.connect(clients.back(), {"beta", "", 7}, false, net.now).error().code, EINPROGRESS);
    }
    ASSERT_TRUE(net.run_until([&] { return (beta.info(listener)->ready & Ready::kRead) != 0; }));
    while (const auto accepted = beta.accept(listener, net.now)) servers.push_back(*accepted);
  }
  const auto faults = beta.counters().protocol_faults;
  for (const SocketId server : std::span(servers).subspan(1)) {
    beta.stop_reading(server, true, net.now);
    beta.close(server, true, net.now);
  }
  net.run(100 * kMillisecond);
  EXPECT_EQ(beta.counters().protocol_faults, faults);
  EXPECT_EQ(beta.info(servers.front())->state, ScbState::kEstablished);
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

}  // namespace
}  // namespace stp
