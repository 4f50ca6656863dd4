// What conversations of a few bytes cost: looks for an answer, packets and gates until both ends are acknowledged.
#include "stp/engine.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <utility>

#include "tests/unit/two_hosts.h"

namespace stp {
namespace {

using test::TwoHosts;
using test::bytes;

SocketId listening(TwoHosts& net, Engine& engine) {
  const SocketId listener = engine.open(net.now).value();
  EXPECT_TRUE(engine.bind(listener, 7));
  EXPECT_TRUE(engine.listen(listener, 5));
  return listener;
}

// How many looks the asker takes for each answer that comes after `ticks` steps of 50 us, once it has had the time to learn.
double looks_for_an_answer(bool answers_from_afar, int ticks) {
  TwoHosts net(256u << 20, answers_from_afar);
  Engine& alpha = *net.alpha.engine;
  Engine& beta = *net.beta.engine;
  const SocketId listener = listening(net, beta);
  const SocketId asker = alpha.open(net.now).value();
  EXPECT_EQ(alpha.connect(asker, {"beta", "", 7}, false, net.now).error().code, EINPROGRESS);
  EXPECT_TRUE(net.run_until([&] { return (beta.info(listener)->ready & Ready::kRead) != 0; }));
  const SocketId answerer = beta.accept(listener, net.now).value();
  EXPECT_TRUE(net.run_until([&] { return (alpha.info(asker)->ready & Ready::kConnect) != 0; }));
  std::array<std::byte, 16> in{};
  constexpr int kToLearn = 60, kToCount = 40;
  std::uint64_t before = 0;
  for (int i = 0; i < kToLearn + kToCount; ++i) {
    if (i == kToLearn) before = alpha.counters().reads;
    net.alpha.medium.holds = true;  // a write takes its time
    EXPECT_TRUE(alpha.send(asker, bytes("q"), net.now));
    net.tick();
    net.alpha.medium.holds = false;
    EXPECT_TRUE(net.run_until([&] { return beta.receive(answerer, in, false, net.now).has_value(); }));
    for (int t = 0; t < ticks; ++t) net.tick();
    EXPECT_TRUE(beta.send(answerer, bytes("a"), net.now));
    EXPECT_TRUE(net.run_until([&] { return alpha.receive(asker, in, false, net.now).has_value(); }));
  }
  return static_cast<double>(alpha.counters().reads - before) / kToCount;
}

// What ten conversations that both sides end as soon as they can have the hosts write: packets, and gates.
std::pair<std::uint64_t, std::uint64_t> written_for_ten(bool by_agents) {
  TwoHosts net(256u << 20, by_agents);
  Engine& alpha = *net.alpha.engine;
  Engine& beta = *net.beta.engine;
  const SocketId listener = listening(net, beta);
  constexpr int kWarmUp = 8, kCounted = 10;
  EngineCounters first_alpha, first_beta;
  for (int i = 0; i < kWarmUp + kCounted; ++i) {
    if (i < kWarmUp) net.run(3 * kMillisecond);  // each learns that the other one looks at its ring
    if (i == kWarmUp) {
      first_alpha = alpha.counters();
      first_beta = beta.counters();
    }
    const SocketId client = alpha.open(net.now).value();
    EXPECT_EQ(alpha.connect(client, {"beta", "", 7}, false, net.now).error().code, EINPROGRESS);
    EXPECT_TRUE(net.run_until([&] { return alpha.connect_ended(client) && (beta.info(listener)->ready & Ready::kRead) != 0; }));
    const SocketId server = beta.accept(listener, net.now).value();
    alpha.close(client, false, net.now);
    std::array<std::byte, 1> in{};
    EXPECT_TRUE(net.run_until([&] { return beta.receive(server, in, false, net.now).has_value(); }));
    beta.close(server, false, net.now);
    EXPECT_TRUE(net.run_until([&] { return (net.alpha.told[client] & Ready::kDrained) != 0; }));
  }
  const EngineCounters last_alpha = alpha.counters(), last_beta = beta.counters();
  return {last_alpha.packets_sent - first_alpha.packets_sent + last_beta.packets_sent - first_beta.packets_sent,
          last_alpha.gates_written - first_alpha.gates_written + last_beta.gates_written - first_beta.gates_written};
}

// OPEN, OPEN_ACK, FIN, its acknowledgement, FIN, its acknowledgement. An agent's last goes with the next OPEN.
TEST(EngineEnds, AreAcknowledgedInPackets) {
  const auto embedded = written_for_ten(false), by_agents = written_for_ten(true);
  EXPECT_LE(embedded.first, 60u);
  EXPECT_EQ(embedded.second, 0u);
  EXPECT_LE(by_agents.first, 51u);
  EXPECT_EQ(by_agents.second, 0u);
}

TEST(EngineTurn, OfAnswersFromAnotherProcessIsLearned) {
  EXPECT_LT(looks_for_an_answer(true, 2), looks_for_an_answer(false, 2) - 0.5);
}

}  // namespace
}  // namespace stp
