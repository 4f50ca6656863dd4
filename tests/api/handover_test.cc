// Sockets that are given to another process, and taken. What an embedded program answers is tested too; the rest needs an agent for this
// host (STP_TEST_AGENT).
#include <poll.h>

#include <array>
#include <chrono>
#include <thread>

#include "tests/api/fixture.h"
#include "tests/api/taker.h"

namespace stp::test {

TEST(Handover, NeedsAnAgentAndSaysSo) {
  if (served_by_agent()) GTEST_SKIP() << "there is one";
  const Pair pair = connected_pair();
  stp_clientid id = {};
  EXPECT_FAILS(STPgetclientid(&id), ENOTSUP);
  EXPECT_EQ(STPerror(-1), STP_ENEEDSAGENT);
  EXPECT_FAILS(STPgivesocket(pair.client, &id), ENOTSUP);
  EXPECT_FAILS(STPtakesocket(&id, pair.client), ENOTSUP);
  EXPECT_TRUE(send_all(pair.client, pattern(100)));
  EXPECT_EQ(receive_exactly(pair.server, 100), pattern(100));
}

TEST(Handover, LosesNothingThatWasBuffered) {
  NEEDS_AGENT();
  Taker taker;
  PeerProcess far("beta", "echo");
  const Owned s = open_socket();
  ASSERT_EQ(connect_to(s, "beta", announced_port(far)), 0) << STPstrerror(s);
  ASSERT_TRUE(send_all(s, pattern(300'000)));
  ASSERT_EQ(receive_exactly(s, 1000), [] {
    auto first = pattern(300'000);
    first.resize(1000);
    return first;
  }());
  ASSERT_EQ(STPgivesocket(s, &taker.id), 0) << STPstrerror(s);
  ::poll(nullptr, 0, 100);  // what comes meanwhile is kept
  ASSERT_EQ(taker.take(s), "taken");
  taker.process.tell("read 1000 300000");
  EXPECT_EQ(taker.process.read_line(), "good");
  taker.process.tell("echoes 200000");
  EXPECT_EQ(taker.process.read_line(), "good");
}

TEST(Handover, LeavesTheGiverANumberToClose) {
  NEEDS_AGENT();
  Taker taker;
  Pair pair = connected_pair();
  ASSERT_EQ(STPgivesocket(pair.server, &taker.id), 0) << STPstrerror(pair.server);
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.server, &byte, 1, 0), EBADF);
  EXPECT_EQ(STPerror(pair.server), STP_EGIVENAWAY);
  EXPECT_FAILS(STPgivesocket(pair.server, &taker.id), EBADF);
  pollfd waits = {pair.server, POLLIN, 0};
  EXPECT_EQ(STPpoll(&waits, 1, 0), 1);
  EXPECT_EQ(waits.revents, POLLNVAL);
  const int number = pair.server;
  EXPECT_EQ(pair.server.close(), 0);
  ASSERT_EQ(taker.take(number), "taken");
  taker.process.tell("echo");
  ASSERT_TRUE(echoes(pair.client, 100'000));
  EXPECT_EQ(pair.client.close(), 0);
  EXPECT_EQ(taker.process.read_line(), "end");
}

TEST(Handover, WakesThreadsOfTheGiver) {
  NEEDS_AGENT();
  Taker taker;
  const Pair pair = connected_pair();
  int code = 0;
  std::thread reader([&] {
    char byte = 0;
    if (STPrecv(pair.server, &byte, 1, 0) == -1) code = errno;
  });
  ::poll(nullptr, 0, 50);
  ASSERT_EQ(STPgivesocket(pair.server, &taker.id), 0);
  reader.join();
  EXPECT_EQ(code, EBADF);
}

TEST(Handover, AListenerGoesWithTheConnectionsInItsQueue) {
  NEEDS_AGENT();
  Taker taker;
  const Owned listener = listening_socket();
  const Owned first = open_socket(), second = open_socket();
  ASSERT_EQ(connect_to(first, "", port_of(listener)), 0);
  const std::uint16_t port = port_of(listener);
  ASSERT_EQ(STPgivesocket(listener, &taker.id), 0) << STPstrerror(listener);
  ASSERT_EQ(connect_to(second, "", port), 0) << STPstrerror(second);  // while the agent holds it
  ASSERT_EQ(taker.take(listener), "taken");
  for (const Owned* s : {&first, &second}) {
    taker.process.tell("accept");
    ASSERT_TRUE(echoes(*s, 10'000));
    ASSERT_EQ(STPshutdown(*s, SHUT_WR), 0);
    EXPECT_EQ(taker.process.read_line(), "end");
  }
}

TEST(Handover, IsForTheNamedTakerAndOnce) {
  NEEDS_AGENT();
  Taker taker, other;
  const Pair pair = connected_pair();
  EXPECT_EQ(taker.take(pair.client).substr(0, 5), "error");  // nothing was given
  ASSERT_EQ(STPgivesocket(pair.client, &taker.id), 0);
  std::istringstream refused(other.take(pair.client));
  std::string word;
  int code = 0;
  refused >> word >> code;
  EXPECT_EQ(word, "error");
  EXPECT_EQ(code, EACCES);
  ASSERT_EQ(taker.take(pair.client), "taken");
  std::istringstream gone(taker.take(pair.client));
  gone >> word >> code;
  EXPECT_EQ(word, "error");
  EXPECT_EQ(code, ENOENT);
  stp_clientid nobody = my_id();
  nobody.stp_program = 0x7fffffff;
  EXPECT_FAILS(STPgivesocket(pair.server, &nobody), ESRCH);
  nobody = my_id();
  ++nobody.stp_agent;
  EXPECT_FAILS(STPgivesocket(pair.server, &nobody), ESRCH);
  const Owned plain = open_socket();
  EXPECT_FAILS(STPgivesocket(plain, &taker.id), ENOTCONN);
  EXPECT_FAILS(STPgivesocket(pair.server, nullptr), EFAULT);
}

// A giver may use its number again before the first was taken: each taker gets what is its, in the order it was given.
TEST(Handover, UnderANumberUsedTwice) {
  NEEDS_AGENT();
  Taker first, second;
  Pair one = connected_pair();
  ASSERT_EQ(STPgivesocket(one.server, &first.id), 0);
  const int number = one.server;
  ASSERT_EQ(one.server.close(), 0);
  Pair two = connected_pair();
  // The number is free, and the lowest: one of the two has it.
  const bool server_has_it = two.server == number;
  ASSERT_TRUE(server_has_it || two.client == number);
  const Owned& given = server_has_it ? two.server : two.client;
  const Owned& kept = server_has_it ? two.client : two.server;
  ASSERT_EQ(STPgivesocket(given, &second.id), 0);
  ASSERT_EQ(second.take(number), "taken");
  ASSERT_EQ(first.take(number), "taken");
  first.process.tell("echo");
  second.process.tell("echo");
  EXPECT_TRUE(echoes(one.client, 1000));
  EXPECT_TRUE(echoes(kept, 1000));
}

TEST(Handover, ToWhomeverOfTheSameUser) {
  NEEDS_AGENT();
  Taker taker;
  const Pair pair = connected_pair();
  stp_clientid anybody = my_id();
  anybody.stp_program = 0;
  ASSERT_EQ(STPgivesocket(pair.server, &anybody), 0) << STPstrerror(pair.server);
  ASSERT_EQ(taker.take(pair.server), "taken");
  // And within one program.
  const stp_clientid me = my_id();
  ASSERT_EQ(STPgivesocket(pair.client, &me), 0);
  const Owned mine(STPtakesocket(&me, pair.client));
  ASSERT_GE(mine.get(), 0) << STPstrerror(-1);
  taker.process.tell("echo");
  EXPECT_TRUE(echoes(mine, 50'000));
}

TEST(Handover, IsResetWhenTheTakerDies) {
  NEEDS_AGENT();
  Taker taker;
  const Pair pair = connected_pair();
  ASSERT_EQ(STPgivesocket(pair.server, &taker.id), 0);
  taker.process.kill();
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.client, &byte, 1, 0), ECONNRESET);
}

TEST(Handover, IsResetWhenNobodyTakesIt) {
  NEEDS_AGENT();
  Taker taker;
  const Pair pair = connected_pair();
  ASSERT_EQ(STPgivesocket(pair.server, &taker.id), 0);
  const auto began = std::chrono::steady_clock::now();
  char byte = 0;
  EXPECT_FAILS(STPrecv(pair.client, &byte, 1, 0), ECONNRESET);
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::seconds(1));
  std::istringstream gone(taker.take(pair.server));
  std::string word;
  int code = 0;
  gone >> word >> code;
  EXPECT_EQ(code, ENOENT);
}

}  // namespace stp::test
