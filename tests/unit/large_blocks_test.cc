// Blocks larger than what small sends gather: extents are written in whole blocks, of memory that is there (the address sanitizer looks).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "stp/engine.h"
#include "tests/unit/two_hosts.h"

namespace stp {
namespace {

class LargeBlocksTest : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(LargeBlocksTest, CarrySmallSendsThatBecomeBulk) {
  for (const std::uint64_t budget : {std::uint64_t{256} << 20, std::uint64_t{300} << 10}) {  // plenty, and hardly more than one extent
    test::TwoHosts net(budget, false, GetParam());
    Engine &alpha = *net.alpha.engine, &beta = *net.beta.engine;
    const SocketId listener = beta.open(net.now).value();
    ASSERT_EQ(beta.bind(listener, 7).value(), 7);
    ASSERT_TRUE(beta.listen(listener, 5));
    const SocketId client = alpha.open(net.now).value();
    (void)alpha.connect(client, {"beta", "", 7}, false, net.now);
    ASSERT_TRUE(net.run_until([&] { return (alpha.info(client)->ready & Ready::kConnect) != 0; }));
    const SocketId server = beta.accept(listener, net.now).value();

    std::vector<std::byte> into(1 << 20);
    std::uint64_t sent = 0, received = 0;
    const auto byte_at = [](std::uint64_t offset) { return static_cast<std::byte>(offset * 2654435761u >> 13); };
    for (int round = 0; round < 30; ++round) {
      for (int i = 0; i < 200; ++i) {
        std::vector<std::byte> message(1000);
        for (std::size_t k = 0; k < message.size(); ++k) message[k] = byte_at(sent + k);
        sent += alpha.send(client, message, net.now).value_or(0);
      }
      ASSERT_TRUE(net.run_until([&] {
        while (const auto n = beta.receive(server, into, false, net.now).value_or(0)) {
          for (std::size_t k = 0; k < n; ++k)
            if (into[k] != byte_at(received + k)) ADD_FAILURE() << "at " << received + k;
          received += n;
        }
        return received == sent || HasFailure();
      }));
      ASSERT_FALSE(HasFailure());
    }
    EXPECT_GT(alpha.counters().extents_sent, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Bytes, LargeBlocksTest, ::testing::Values(4096u, 16384u, 32768u, 65536u));

}  // namespace
}  // namespace stp
