// Many threads on many sockets, and on one.
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "stp/uring_medium.h"
#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

namespace stp::test {

TEST(Threads, EachWithItsConnectionGetWhatIsTheirs) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 60;
  const Owned listener = listening_socket(kThreads);
  const std::uint16_t port = port_of(listener);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&listener] {
      const Owned s(STPaccept(listener, nullptr, nullptr));
      ASSERT_GE(s.get(), 0);
      for (;;) {
        const auto size = receive_exactly(s, sizeof(std::uint32_t));
        if (size.empty()) return;
        std::uint32_t count = 0;
        std::memcpy(&count, size.data(), sizeof count);
        ASSERT_TRUE(send_all(s, receive_exactly(s, count)));
      }
    });
    threads.emplace_back([port, i] {
      const Owned s = open_socket();
      ASSERT_EQ(connect_to(s, "", port), 0) << STPstrerror(s);
      for (std::uint32_t round = 1; round <= kRounds; ++round) {
        const std::uint32_t count = round * 97 * static_cast<std::uint32_t>(i + 1);
        const auto data = pattern(count, count);
        ASSERT_EQ(STPsend(s, &count, sizeof count, 0), static_cast<ssize_t>(sizeof count));
        ASSERT_TRUE(send_all(s, data));
        ASSERT_EQ(receive_exactly(s, count), data);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Threads, ReadingOneSocketLoseNothingAndGetNothingTwice) {
  const Pair pair = connected_pair();
  constexpr std::size_t kBytes = 600'000;
  std::atomic<std::size_t> total{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      std::vector<std::byte> part(1000);
      ssize_t got = 0;
      while ((got = STPrecv(pair.server, part.data(), part.size(), 0)) > 0) total += static_cast<std::size_t>(got);
      EXPECT_EQ(got, 0) << STPstrerror(pair.server);
    });
  }
  ASSERT_TRUE(send_all(pair.client, pattern(kBytes)));
  ASSERT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(total, kBytes);
}

TEST(Threads, AcceptingOnOneListenerEachGetConnections) {
  const Owned listener = listening_socket();
  std::vector<std::thread> acceptors;
  for (int i = 0; i < 4; ++i) {
    acceptors.emplace_back([&listener] {
      const Owned s(STPaccept(listener, nullptr, nullptr));
      EXPECT_GE(s.get(), 0);
      EXPECT_TRUE(send_all(s, pattern(10)));
    });
  }
  std::vector<Owned> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(open_socket());
    ASSERT_EQ(connect_to(clients.back(), "", port_of(listener)), 0);
  }
  for (const Owned& client : clients) EXPECT_EQ(receive_exactly(client, 10), pattern(10));
  for (std::thread& acceptor : acceptors) acceptor.join();
}

TEST(Threads, MayComeAndGo) {
  for (int round = 0; round < 20; ++round) {
    std::thread([] {
      const Pair pair = connected_pair();
      ASSERT_TRUE(send_all(pair.client, pattern(5000)));
      EXPECT_EQ(receive_exactly(pair.server, 5000), pattern(5000));
    }).join();
  }
}

// io_uring tells of a completion by the thread that handed the request in, and late when that one has ended: everybody waits for a tick of the kernel's clock then.
TEST(Threads, ThatEndHaveNothingUnderWay) {
  if (served_by_agent()) GTEST_SKIP() << "the agent does the I/O";
  const char* const medium = std::getenv("STP_TEST_MEDIUM");
  if (medium == nullptr || medium != std::string("direct") || !UringMedium::available()) GTEST_SKIP() << "no io_uring here";
  PeerProcess far("beta", "echo");
  const std::uint16_t port = announced_port(far);
  constexpr int kThreads = 60;
  int left = 0;
  for (int i = 0; i < kThreads; ++i) {
    std::shared_ptr<const Medium::Count> count;
    std::thread([&] {
      count = UringMedium::under_way_by_caller();
      const Owned s = open_socket();
      ASSERT_EQ(connect_to(s, "beta", port), 0) << STPstrerror(s);
      ASSERT_TRUE(echoes(s, 200));
    }).join();
    left += count->load() > 0;
  }
  EXPECT_LT(left, kThreads / 10);  // a storage that stalls is not waited for
}

}  // namespace stp::test
