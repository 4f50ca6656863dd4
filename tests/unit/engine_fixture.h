// Two hosts, and a connected pair of sockets: what the tests of the engine share.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "tests/unit/two_hosts.h"

namespace stp::test {

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

  // Alpha's engine writes to no block behind its own extents.
  bool writes_extent(const IoRequest& r) const { return r.op == IoRequest::Op::kWrite && r.block >= net.superblock.geometry.extent(0, 0); }
  // Of what alpha writes of extents the first `times` writes come to nothing.
  void damage_extents(int times) {
    net.alpha.medium.fault = [this, times, damaged = 0](const IoRequest& r) mutable {
      return writes_extent(r) && damaged++ < times ? MemoryMedium::kSwallow : 0;
    };
  }
  int connecting_to_beta() {
    const SocketId s = alpha().open(net.now).value();
    return alpha().connect(s, {"beta", "", 9}, false, net.now).error().code;
  }

  TwoHosts net;
  SocketId listener = 0, client = 0, server = 0;
};

}  // namespace stp::test
