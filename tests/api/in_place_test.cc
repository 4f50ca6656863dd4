// Bytes moved where the socket has them (hostlib/in_place.h): with an agent. The embedded engine has no such place, and says so.
#include "hostlib/in_place.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

namespace stp::test {
namespace {

constexpr std::size_t kMost = 100'000;  // no part of a ring's size: its end comes anywhere

class InPlace : public testing::Test {
 protected:
  void SetUp() override {
    if (!served_by_agent()) GTEST_SKIP() << "embedded: there is no such place";
  }
  static ssize_t put(int s, std::string_view text) {
    return send_in_place(s, text.size(), [text](std::span<std::byte> room) {
      EXPECT_GE(room.size(), text.size());
      std::memcpy(room.data(), text.data(), text.size());
      return text.size();
    });
  }
};

TEST_F(InPlace, CarriesManyLapsOfARingWhoeverIsFaster) {
  Pair pair = connected_pair();
  const std::vector<std::byte> sent = pattern(11'000'000);
  std::vector<std::byte> got;
  std::thread sender([&] {
    for (std::size_t done = 0; done < sent.size();) {
      const ssize_t n = send_in_place(pair.client, kMost, [&](std::span<std::byte> room) {
        const std::size_t count = std::min(room.size(), sent.size() - done);
        std::copy_n(sent.begin() + static_cast<std::ptrdiff_t>(done), count, room.begin());
        return count;
      });
      if (n >= 0) {
        done += static_cast<std::size_t>(n);
        continue;
      }
      EXPECT_EQ(errno, EAGAIN);
      if (errno != EAGAIN) break;
      ::poll(nullptr, 0, 1);
    }
    EXPECT_EQ(STPshutdown(pair.client, SHUT_WR), 0);
  });
  for (;;) {
    const ssize_t n = receive_in_place(pair.server, kMost, [&](std::span<const std::byte> there) {
      const std::size_t count = (there.size() + 1) / 2;  // not all of it
      got.insert(got.end(), there.begin(), there.begin() + static_cast<std::ptrdiff_t>(count));
      return count;
    });
    if (n == 0) break;
    if (n > 0) continue;
    EXPECT_EQ(errno, EAGAIN) << STPstrerror(pair.server);
    if (errno != EAGAIN) break;
    ::poll(nullptr, 0, 1);
  }
  sender.join();
  EXPECT_TRUE(got == sent);
}

TEST_F(InPlace, AsksNobodyWhereThereIsNoRoomOrNothing) {
  Pair pair = connected_pair();
  const auto never = [](auto) -> std::size_t {
    ADD_FAILURE() << "asked";
    return 0;
  };
  EXPECT_FAILS(receive_in_place(pair.server, kMost, never), EAGAIN);
  EXPECT_GT(fill(pair.client), 0U);
  EXPECT_FAILS(send_in_place(pair.client, kMost, never), EAGAIN);
}

TEST_F(InPlace, WhatIsNotTakenStays) {
  Pair pair = connected_pair();
  ASSERT_EQ(put(pair.client, "stays"), 5);
  EXPECT_EQ(send_in_place(pair.client, kMost, [](std::span<std::byte>) { return std::size_t{0}; }), 0);
  ssize_t refused = 0;
  for (int i = 0; i < 3000 && refused == 0; ++i) {
    const ssize_t n = receive_in_place(pair.server, kMost, [&](std::span<const std::byte> there) {
      refused = static_cast<ssize_t>(there.size());
      return std::size_t{0};
    });
    ASSERT_EQ(n, -1);
    ASSERT_EQ(errno, EAGAIN);
    if (refused == 0) ::poll(nullptr, 0, 1);
  }
  EXPECT_EQ(refused, 5);
  char text[6] = {};
  EXPECT_EQ(STPrecv(pair.server, text, 5, MSG_WAITALL), 5);
  EXPECT_STREQ(text, "stays");
}

TEST_F(InPlace, SaysAsSendAndReceiveDoWhenThePeerIsGone) {
  Pair pair = connected_pair();
  ASSERT_EQ(put(pair.client, "last"), 4);
  ASSERT_EQ(pair.client.close(), 0);
  char text[4];
  ASSERT_EQ(STPrecv(pair.server, text, sizeof text, MSG_WAITALL), 4);
  const auto take = [](std::span<const std::byte> there) { return there.size(); };
  EXPECT_EQ(receive_in_place(pair.server, kMost, take), 0);
  ssize_t n = 0;
  for (int i = 0; i < 3000 && n >= 0; ++i, ::poll(nullptr, 0, 1)) n = put(pair.server, "too late");
  EXPECT_EQ(n, -1);
  EXPECT_TRUE(errno == ECONNRESET || errno == EPIPE) << errno;
  const Owned alone = open_socket();
  EXPECT_FAILS(put(alone, "nowhere"), ENOTCONN);
  EXPECT_FAILS(put(-1, "nowhere"), EBADF);
}

TEST(InPlaceEmbedded, SaysThatThereIsNoPlace) {
  if (served_by_agent()) GTEST_SKIP() << "there is an agent";
  Pair pair = connected_pair();
  EXPECT_FAILS(send_in_place(pair.client, kMost, [](std::span<std::byte>) { return std::size_t{1}; }), EOPNOTSUPP);
  EXPECT_FAILS(receive_in_place(pair.server, kMost, [](std::span<const std::byte>) { return std::size_t{1}; }), EOPNOTSUPP);
}

// Between the look whether it has closed and the bytes being there.
TEST_F(InPlace, ACloseTellsOfWhatCameToAProgramThatHadJustClosed) {
  PeerProcess near(kMyHost, "hold");
  Owned s = open_socket();
  ASSERT_EQ(connect_to(s, kMyHost, announced_port(near)), 0) << STPstrerror(s);
  ASSERT_EQ(near.read_line(), "accepted");
  ASSERT_EQ(send_in_place(s, 10, [&near](std::span<std::byte> room) {
              near.tell("end");
              EXPECT_EQ(near.wait(), 0);
              std::fill_n(room.begin(), 10, std::byte{'x'});
              return std::size_t{10};
            }), 10);
  EXPECT_FAILS(s.close(), ECONNRESET);
}

}  // namespace
}  // namespace stp::test
