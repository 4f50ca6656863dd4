// Engine::waits_in_line: many sockets that send at the same time, as an agent sees them.
#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "stp/engine.h"
#include "tests/unit/two_hosts.h"

namespace stp {
namespace {

class ManySendersTest : public ::testing::Test {
 protected:
  struct Conversation {
    SocketId client = 0, server = 0;
  };

  void SetUp() override {
    listener_ = beta().open(net.now).value();
    ASSERT_EQ(beta().bind(listener_, 7).value(), 7);
    ASSERT_TRUE(beta().listen(listener_, 5));
  }
  Conversation connect() {
    Conversation made{.client = alpha().open(net.now).value()};
    (void)alpha().connect(made.client, {"beta", "", 7}, false, net.now);
    EXPECT_TRUE(net.run_until([&] { return (alpha().info(made.client)->ready & Ready::kConnect) != 0; }));
    made.server = beta().accept(listener_, net.now).value();
    return made;
  }
  void connect_many() {
    while (many.size() < kMany) many.push_back(connect());
    net.run(50 * kMillisecond);
  }
  void send_on_all(std::size_t size) {
    const std::vector<std::byte> message(size);
    for (const Conversation& each : many) (void)alpha().send(each.client, message, net.now);
  }
  void receive_on_all() {
    for (const Conversation& each : many) (void)beta().receive(each.server, into_, false, net.now);
  }
  bool told_room(SocketId socket) { return (net.alpha.told[socket] & Ready::kWrite) != 0; }
  Engine& alpha() { return *net.alpha.engine; }
  Engine& beta() { return *net.beta.engine; }

  static constexpr std::size_t kMany = 160;
  test::TwoHosts net;
  std::vector<Conversation> many;
  std::vector<std::byte> into_ = std::vector<std::byte>(1 << 20);

 private:
  SocketId listener_ = 0;
};

TEST_F(ManySendersTest, WaitInALongLineAndAreToldWhenTheyHaveLeftIt) {
  constexpr std::size_t kFew = 20;
  connect_many();
  const std::vector<std::byte> message(64);
  for (std::size_t i = 0; i < kFew; ++i) ASSERT_TRUE(alpha().send(many[i].client, message, net.now));
  for (std::size_t i = 0; i < kFew; ++i) EXPECT_FALSE(alpha().waits_in_line(many[i].client)) << "the line is short";
  for (std::size_t i = kFew; i < kMany; ++i) {
    EXPECT_FALSE(alpha().waits_in_line(many[i].client)) << "nothing of it waits";
    ASSERT_TRUE(alpha().send(many[i].client, message, net.now));
  }
  for (const Conversation& each : many) EXPECT_TRUE(alpha().waits_in_line(each.client));
  net.alpha.told.clear();
  std::vector<bool> seen(kMany);
  std::size_t before_acknowledged = 0;
  EXPECT_TRUE(net.run_until([&] {
    for (std::size_t i = 0; i < kMany; ++i) {
      if (seen[i] || !told_room(many[i].client)) continue;
      seen[i] = true;
      before_acknowledged += alpha().info(many[i].client)->unacknowledged_bytes > 0;
    }
    return std::ranges::all_of(seen, [](bool each) { return each; });
  }));
  EXPECT_EQ(before_acknowledged, kMany) << "told when it was on its way, not when it had come";
  for (const Conversation& each : many) EXPECT_FALSE(alpha().waits_in_line(each.client));
}

// Whoever asked does nothing else for the socket until it is told.
TEST_F(ManySendersTest, AreToldAlsoWhereThereIsNoRoomThen) {
  const Conversation slow = connect();
  connect_many();
  const std::vector<std::byte> piece(64 * 1024);
  for (int i = 0; i < 400; ++i) {
    while (alpha().send(slow.client, piece, net.now)) {
    }
    net.tick();
  }
  alpha().set_send_buffer(slow.client, 4096);  // as the share of a stream becomes less when others begin
  net.run(100 * kMillisecond);
  ASSERT_FALSE(alpha().waits_in_line(slow.client)) << "its credit is used up";
  // A little credit at a time, so that it is for packets.
  bool waits = false;
  std::size_t taken = 0, to_take = 0;
  for (int i = 0; i < 20'000 && !waits; ++i) {
    send_on_all(4000);
    receive_on_all();
    if (i % 1000 == 0) to_take += 700'000;
    if (taken < to_take) taken += beta().receive(slow.server, std::span(into_).first(std::min(into_.size(), to_take - taken)), false, net.now).value_or(0);
    net.tick();
    waits = alpha().waits_in_line(slow.client);
  }
  ASSERT_TRUE(waits);
  net.alpha.told.clear();
  EXPECT_TRUE(net.run_until([&] {
    receive_on_all();
    return told_room(slow.client);
  }));
  EXPECT_EQ(alpha().ready(slow.client).value() & Ready::kWrite, 0u);
}

TEST_F(ManySendersTest, AreNotToldAgainAndAgainWhileTheyWait) {
  connect_many();
  send_on_all(64);
  const SocketId socket = many[3].client;
  ASSERT_TRUE(alpha().shut(socket, true, false, net.now));
  net.alpha.told.clear();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(alpha().waits_in_line(socket));
    (void)alpha().ready(socket);
  }
  EXPECT_EQ(net.alpha.told[socket], 0u);
}

}  // namespace
}  // namespace stp
