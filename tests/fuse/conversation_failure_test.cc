// Conversations whose peer or agent dies, stands still, or was not waited for.
#include "tests/fuse/conversation_fixture.h"

#include <poll.h>
#include <signal.h>

#include <thread>

#include "hostlib/stp.h"

namespace stp::view::test {
namespace {

using namespace std::chrono_literals;
using stp::test::pattern;
using stp::test::PeerProcess;
using stp::test::within;

TEST_F(Conversations_, ADeadPeerIsAnError) {
  auto beta = std::make_unique<PeerProcess>("beta", "echo");
  End end = connected_to(stp::test::announced_port(*beta));
  const auto data = pattern(100'000, 21);
  EXPECT_TRUE(end.data.write_all(data));
  EXPECT_TRUE(read_in_pieces(end.data, data.size(), 22) == data);
  const auto reader = end.data.begin_read(1);
  EXPECT_FALSE(reader->answered());
  beta->kill();
  EXPECT_EQ(reader->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err"), "");
  const auto late = end.data.begin_write(data);
  EXPECT_TRUE(late->result() == EPIPE || late->result() == ECONNRESET) << late->result();
}

TEST_F(Conversations_, WhatBrokeAConversationStays) {
  auto beta = std::make_unique<PeerProcess>("beta", "echo");
  End end = connected_to(stp::test::announced_port(*beta));
  beta->kill();
  EXPECT_TRUE(within(20s, [&] { return text(end.number + "/err") != ""; })) << "words before anybody reads";
  EXPECT_NE(text(end.number + "/err").find("beta"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(text(end.number + "/status"), "broken read 0 written 0\n");
  EXPECT_EQ(end.ctl.say("dance"), EINVAL);  // other words meanwhile
  EXPECT_EQ(end.data.begin_read(1)->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err").find("beta"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(text(end.number + "/status"), "broken read 0 written 0\n") << "after somebody was told";
  EXPECT_NE(end.data->poll(nullptr) & POLLERR, 0u);
  EXPECT_EQ(end.data.say("x"), ECONNRESET);
}

TEST_F(Conversations_, EachCloseTellsOfWhatDidNotArrive) {
  PeerProcess beta("beta", "echo");
  End end = connected_to(stp::test::announced_port(beta));
  ASSERT_TRUE(stp::test::halt_agent("beta"));
  EXPECT_TRUE(end.data.write_all(pattern(200'000, 23)));
  const auto flush = [&] {
    const auto request = ask();
    end.data->flush(request);
    return request;
  };
  const auto childs = flush();  // which has the descriptor too
  childs->interrupt();
  EXPECT_EQ(childs->result(), EINTR);
  const auto last = flush();
  EXPECT_FALSE(last->answered());
  stp::test::kill_agent("beta");
  EXPECT_EQ(last->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err").find("not everything"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(flush()->result(), ECONNRESET);
}

// An agent that stands still keeps whoever asks it waiting: not those who set a timeout, or are hit by a signal.
TEST_F(Conversations_, AnAgentThatStandsStillHoldsUpNoTimeoutAndNoSignal) {
  Ends ends = connected();
  const std::string port = std::to_string(port_of(ends.listeners_number));
  const auto reader = ends.server.data.begin_read(1), timed = ends.client.data.begin_read(1);
  const auto listening = begin_open(ends.listeners_number + "/listen");
  auto [first, firsts_number] = clone();
  auto [second, seconds_number] = clone();
  EXPECT_EQ(first.say("timeout 0.2"), 0);
  EXPECT_EQ(second.say("timeout 0.1"), 0);
  ASSERT_TRUE(stp::test::halt_agent("alpha"));
  const auto begin = std::chrono::steady_clock::now();
  const auto waits_for_agent = first.begin_write(bytes_of("connect alpha " + port));
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(second.say("connect alpha " + port), ETIMEDOUT);
  EXPECT_EQ(waits_for_agent->result(), ETIMEDOUT);
  EXPECT_NE(text(firsts_number + "/err").find("timeout"), std::string::npos) << text(firsts_number + "/err");
  reader->interrupt();
  EXPECT_EQ(reader->result(), EINTR);
  timed->interrupt();
  EXPECT_EQ(timed->result(), EINTR);
  listening->interrupt();
  EXPECT_EQ(listening->result(), EINTR);
  EXPECT_EQ(second.say("hangup"), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 4s);
  ASSERT_EQ(::kill(stp::test::agent_pid("alpha"), SIGCONT), 0);
  EXPECT_EQ(first.say("timeout 20"), 0);
  EXPECT_EQ(first.say("connect alpha " + port), 0) << text(firsts_number + "/err");  // as if nothing had been
}

TEST_F(Conversations_, AConnectionIsNotLostOnWhoGaveUpWaiting) {
  auto [listener, number] = clone();
  EXPECT_EQ(listener.say("announce 0"), 0);
  const std::string port = std::to_string(port_of(number));
  for (int i = 0; i < 200; ++i) {
    const auto gives_up = begin_open(number + "/listen");
    auto [ctl, clients_number] = clone();
    const auto connecting = ctl.begin_write(bytes_of("connect alpha " + port));
    if (i % 4 == 0) {
      EXPECT_EQ(connecting->result(), 0);
    }
    gives_up->interrupt();
    EXPECT_EQ(connecting->result(), 0);
    if (gives_up->result() == 0) {
      const File taken(gives_up->file());
      continue;
    }
    EXPECT_EQ(gives_up->result(), EINTR);
    const auto next = begin_open(number + "/listen");
    ASSERT_EQ(next->result(), 0) << i;
    const File taken(next->file());
  }
}

// So that the kernel can be told.
TEST_F(Conversations_, ADeadAgentEndsThemAndTheNextCarriesNewOnes) {
  Ends ends = connected();
  PeerProcess beta("beta", "echo");
  End far = connected_to(stp::test::announced_port(beta));
  const auto near_reader = ends.client.data.begin_read(1), far_reader = far.data.begin_read(1);
  const auto waking = std::make_shared<Waking>();
  (void)far.data->poll(waking);
  const auto listening = begin_open(ends.listeners_number + "/listen");
  stp::test::kill_agent("alpha");
  EXPECT_EQ(near_reader->result(), ECONNRESET);
  EXPECT_EQ(far_reader->result(), ECONNRESET);
  EXPECT_TRUE(waking->woken_within(20s));
  EXPECT_NE(text(far.number + "/err").find("agent"), std::string::npos) << text(far.number + "/err");
  auto [without, withouts_number] = clone();
  EXPECT_EQ(without.say("announce 0"), ENOTCONN);
  EXPECT_EQ(without.say("connect beta 9"), ENOTCONN);
  EXPECT_NE(text(withouts_number + "/err").find("agent"), std::string::npos) << text(withouts_number + "/err");
  (void)stp::test::agent_of("alpha");
  // The listener is registered again by the library, and who waits there still does.
  const std::string port = std::to_string(port_of(ends.listeners_number));
  auto [ctl, number] = clone();
  EXPECT_TRUE(within(20s, [&] { return ctl.say("connect alpha " + port) == 0; })) << text(number + "/err");
  EXPECT_EQ(listening->result(), 0);
  const File accepted(listening->file());
}

}  // namespace
}  // namespace stp::view::test
