// What a relay carries between a program's Unix socket and an STP socket: bytes, ends, resets. STP is the stand-in of unix_shim.cc.
#include "tools/relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "tests/tools/unix_shim.h"

namespace stp {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> out(text.size());
  std::transform(text.begin(), text.end(), out.begin(), [](char c) { return static_cast<std::byte>(c); });
  return out;
}

// A program, the relay, and a peer on the other side of STP. The parameter: whether bytes are moved without a copy (hostlib/in_place.h).
class RelayTest : public testing::TestWithParam<bool> {
 protected:
  RelayTest() : loop_(*EventLoop::make()) {
    shim::lend(GetParam());
    connect(program_, kernel_);
    connect(peer_, stp_);
    for (const int fd : {kernel_.get(), stp_.get()}) EXPECT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  }
  ~RelayTest() override {
    // One that has not ended keeps itself.
    loop_->post([this] {
      if (const auto relay = relay_.lock()) relay->abort();
    });
    loop_->stop();
    if (thread_.joinable()) thread_.join();
  }
  static void connect(UniqueFd& one, UniqueFd& other) {
    int pair[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    one.reset(pair[0]);
    other.reset(pair[1]);
    const timeval patience = {.tv_sec = 20, .tv_usec = 0};
    (void)::setsockopt(one.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  void start(KernelSide side, std::string_view head = {}) {
    loop_->post([this, side, head = bytes_of(head)] {
      relay_ = Relay::start(*loop_, std::move(kernel_), side, stp_.release(), [this](const Relay::Totals&, bool good) { ended_.set_value(good); }, head);
    });
    thread_ = std::thread([this] { loop_->run(); });
  }
  static void say(const UniqueFd& fd, std::string_view text) {
    ASSERT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  // All until the end, which is "<end>" or the name of an error.
  static std::string hear(const UniqueFd& fd, std::size_t most = SIZE_MAX) {
    std::string all;
    std::array<char, 65536> piece;
    while (all.size() < most) {
      const ssize_t n = ::recv(fd.get(), piece.data(), std::min(piece.size(), most - all.size()), 0);
      if (n == 0) return all + "<end>";
      if (n < 0) return all + (errno == ECONNRESET ? "<reset>" : errno == EAGAIN ? "<nothing>" : "<error>");
      all.append(piece.data(), static_cast<std::size_t>(n));
    }
    return all;
  }
  bool ended_well() {
    std::future<bool> ended = ended_.get_future();
    return ended.wait_for(std::chrono::seconds(20)) == std::future_status::ready && ended.get();
  }
  // The peer goes away with something unread: a reset.
  void reset_by_peer() {
    say(program_, "unread");
    std::array<char, 6> seen;
    ASSERT_EQ(::recv(peer_.get(), seen.data(), seen.size(), MSG_PEEK | MSG_WAITALL), 6);
    peer_.reset();
  }

  std::unique_ptr<EventLoop> loop_;
  UniqueFd program_, kernel_, peer_, stp_;
  std::promise<bool> ended_;
  std::weak_ptr<Relay> relay_;  // the loop's thread
  std::thread thread_;
};

TEST_P(RelayTest, CarriesBytesAndEndsBothWays) {
  start(KernelSide::kTcp);
  say(program_, "question");
  ASSERT_EQ(::shutdown(program_.get(), SHUT_WR), 0);
  EXPECT_EQ(hear(peer_), "question<end>");
  say(peer_, "answer");
  peer_.reset();
  EXPECT_EQ(hear(program_), "answer<end>");
  EXPECT_TRUE(ended_well());
}

TEST_P(RelayTest, LosesNothingOfMuchThatIsTakenSlowly) {
  start(KernelSide::kUnixHeadMayCome, "head");
  std::string much(8 * kMiB, ' ');
  for (std::size_t i = 0; i < much.size(); ++i) much[i] = static_cast<char>(i * 31 + i / 4096);
  std::thread writer([&] {
    say(program_, "head");
    say(program_, much);
    ASSERT_EQ(::shutdown(program_.get(), SHUT_WR), 0);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it fills whatever there is
  EXPECT_TRUE(hear(peer_) == much + "<end>");
  writer.join();
  peer_.reset();
  EXPECT_EQ(hear(program_), "<end>");
  EXPECT_TRUE(ended_well());
}

// All of it comes, however slowly the program takes it, although nothing can be sent to the peer any more.
TEST_P(RelayTest, WhatAPeerSaysLastComesToAProgramThatIsSilent) {
  start(KernelSide::kUnix);
  std::string last(3 * kMiB, ' ');
  for (std::size_t i = 0; i < last.size(); ++i) last[i] = static_cast<char>(i * 37 + i / 4096);
  std::thread peer([&] {
    say(peer_, last);
    peer_.reset();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::string heard = hear(program_);
  peer.join();
  EXPECT_TRUE(heard == last + "<end>") << heard.size();
}

TEST_P(RelayTest, TellsAProgramWithAHeadOfAReset) {
  say(program_, "h");
  start(KernelSide::kUnixWithHead);
  reset_by_peer();
  EXPECT_EQ(hear(program_), "<reset>");
  EXPECT_FALSE(ended_well());
}

TEST_P(RelayTest, TellsAProgramOfAResetAfterWhatCameBefore) {
  say(program_, "h");
  start(KernelSide::kUnixWithHead);
  say(peer_, "before");
  EXPECT_EQ(hear(program_, 3), "bef");
  reset_by_peer();
  EXPECT_EQ(hear(program_), "ore<reset>");
}

TEST_P(RelayTest, ResetsAProgramThatSendsItsHeadOnlyAfterwards) {
  say(peer_, "before");
  say(stp_, "never read");
  peer_.reset();
  start(KernelSide::kUnixHeadMayCome, "head");
  EXPECT_FALSE(ended_well());
  say(program_, "head");  // as one that accepts now
  EXPECT_EQ(hear(program_), "before<reset>");
}

TEST_P(RelayTest, HandsOnWhatOnlyBeginsLikeAHead) {
  start(KernelSide::kUnixHeadMayCome, "head");
  say(program_, "he");
  say(program_, "llo");
  EXPECT_EQ(hear(peer_, 5), "hello");
  say(peer_, "answer");
  EXPECT_EQ(hear(program_, 6), "answer");
}

TEST_P(RelayTest, AnEndWithoutAnythingBeforeIsAnEnd) {
  start(KernelSide::kUnixHeadMayCome, "head");
  ASSERT_EQ(::shutdown(program_.get(), SHUT_WR), 0);
  EXPECT_EQ(hear(peer_), "<end>");
  peer_.reset();
  EXPECT_EQ(hear(program_), "<end>");
  EXPECT_TRUE(ended_well());
}

TEST_P(RelayTest, AProgramThatClosesWithSomethingUnreadIsNoGoodEnd) {
  say(program_, "h");
  start(KernelSide::kUnixWithHead);
  say(peer_, "never read");
  std::array<char, 10> seen;
  ASSERT_EQ(::recv(program_.get(), seen.data(), seen.size(), MSG_PEEK | MSG_WAITALL), 10);
  program_.reset();
  EXPECT_FALSE(ended_well());
}

INSTANTIATE_TEST_SUITE_P(Bytes, RelayTest, testing::Bool(), [](const auto& of) { return of.param ? "InPlace" : "Copied"; });

}  // namespace
}  // namespace stp
