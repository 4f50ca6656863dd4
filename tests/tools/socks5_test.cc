#include "tools/socks5.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <random>

namespace stp::forward {

namespace {

using State = Socks5Handshake::State;
using namespace std::string_literals;

std::span<const std::byte> as_bytes(std::string_view text) { return {reinterpret_cast<const std::byte*>(text.data()), text.size()}; }

// Hands over `text` as a socket would, `piece` bytes at a time and never more than are wanted. What was not wanted is left.
std::string_view talk(Socks5Handshake& handshake, std::string_view text, std::size_t piece = 1000) {
  while (!text.empty() && handshake.wants() > 0) {
    const std::size_t count = std::min({text.size(), handshake.wants(), piece});
    handshake.take(as_bytes(text.substr(0, count)));
    text.remove_prefix(count);
  }
  return text;
}

std::string request_for(std::string_view name, unsigned port, char command = 1) {
  std::string out = "\5"s + command + "\0\3"s;
  out += static_cast<char>(name.size());
  out += name;
  out += static_cast<char>(port >> 8);
  out += static_cast<char>(port & 0xff);
  return out;
}

const std::string kGreeting = "\5\1\0"s;

// What a request is answered after a good greeting: the reply's code.
int refusal_of(std::string_view request, std::string_view words) {
  Socks5Handshake handshake;
  talk(handshake, kGreeting);
  EXPECT_EQ(handshake.answer(), "\5\0"s);
  talk(handshake, request);
  EXPECT_EQ(handshake.state(), State::kRefused);
  EXPECT_TRUE(handshake.why().contains(words)) << handshake.why();
  EXPECT_EQ(handshake.wants(), 0u);
  const std::string answer = handshake.answer();
  if (answer.size() != 10 || answer[0] != 5 || answer.substr(2) != "\0\1\0\0\0\0\0\0"s) return -1;
  return static_cast<unsigned char>(answer[1]);
}

}  // namespace

TEST(Socks5, ANameIsAskedForInPiecesOfAnySize) {
  const std::string whole = "\5\3\2\0\1"s + request_for("Beta.stp", 8080);
  for (std::size_t piece = 1; piece <= whole.size(); ++piece) {
    Socks5Handshake handshake;
    EXPECT_EQ(talk(handshake, whole, piece), "") << piece;
    ASSERT_EQ(handshake.state(), State::kAsked) << piece;
    EXPECT_EQ(handshake.destination(), (StpAddress{.host = "beta", .port = 8080}));
    EXPECT_EQ(handshake.answer(), "\5\0"s);
    EXPECT_EQ(handshake.answer(), "");
  }
}

TEST(Socks5, WhatComesBehindTheRequestIsNotWanted) {
  const std::string whole = kGreeting + request_for("beta.shop.stp", 1) + "GET / HTTP/1.0\r\n";
  Socks5Handshake handshake;
  EXPECT_EQ(talk(handshake, whole), "GET / HTTP/1.0\r\n");
  EXPECT_EQ(handshake.destination(), (StpAddress{.host = "beta.shop", .port = 1}));
}

TEST(Socks5, TheMethodIsAnsweredBeforeTheRequestComes) {
  Socks5Handshake handshake;
  talk(handshake, kGreeting);
  EXPECT_EQ(handshake.answer(), "\5\0"s);
  EXPECT_EQ(handshake.state(), State::kTalking);
  EXPECT_EQ(handshake.wants(), 4u);
}

TEST(Socks5, OtherProtocolsGetNoAnswer) {
  for (const std::string& begin : {"\4\1\0\x50\1\2\3\4\0"s, "GET / HTTP/1.0\r\n\r\n"s, "\0\0"s, "\xff\xff"s}) {
    Socks5Handshake handshake;
    talk(handshake, begin);
    EXPECT_EQ(handshake.state(), State::kRefused);
    EXPECT_EQ(handshake.answer(), "");
    EXPECT_TRUE(handshake.why().contains("does not speak SOCKS5")) << handshake.why();
  }
}

TEST(Socks5, WithoutTheMethodOfNoAuthenticationItIsOver) {
  for (const std::string& begin : {"\5\0"s, "\5\2\1\2"s, "\5\xff"s + std::string(255, '\2')}) {
    Socks5Handshake handshake;
    talk(handshake, begin);
    EXPECT_EQ(handshake.state(), State::kRefused);
    EXPECT_EQ(handshake.answer(), "\5\xff"s);
  }
}

TEST(Socks5, WhatItDoesNotDoIsRefusedWithTheRightCode) {
  EXPECT_EQ(refusal_of(request_for("beta.stp", 80, 2), "not CONNECT"), 7);
  EXPECT_EQ(refusal_of(request_for("beta.stp", 80, 3), "not CONNECT"), 7);
  EXPECT_EQ(refusal_of("\5\1\0\1\x7f\0\0\1\0\x50"s, "IP address"), 8);
  EXPECT_EQ(refusal_of("\5\1\0\4"s + std::string(16, '\0') + "\0\x50"s, "IP address"), 8);
  EXPECT_EQ(refusal_of("\5\1\0\2"s, "kind of address 2"), 8);
  EXPECT_EQ(refusal_of("\5\1\0\xff"s, "kind of address 255"), 8);
  EXPECT_EQ(refusal_of("\4\1\0\3"s, "version 4"), 1);
  EXPECT_EQ(refusal_of(request_for("www.example.com", 80), "is not HOST.stp"), 2);
  EXPECT_EQ(refusal_of(request_for("127.0.0.1", 80), "is not HOST.stp"), 2);
  EXPECT_EQ(refusal_of(request_for("stp", 80), "is not HOST.stp"), 2);
  EXPECT_EQ(refusal_of(request_for("", 80), "is not HOST.stp"), 2);
  EXPECT_EQ(refusal_of(request_for("beta.stp", 0), "port 0"), 5);
}

TEST(Socks5, NamesThatNoHostCanHaveAreUnreachable) {
  for (const std::string& name :
       {".stp"s, "..stp"s, "be_ta.stp"s, "a.b.c.stp"s, "beta..stp"s, ".beta.stp"s, "be ta.stp"s, "be\0ta.stp"s, "\xff\xfe.stp"s,
        std::string(64, 'b') + ".stp", std::string(251, 'b') + ".stp", "beta." + std::string(32, 's') + ".stp"})
    EXPECT_EQ(refusal_of(request_for(name, 80), "can not be the name"), 4) << name;
}

TEST(Socks5, WordsForTheOperatorHaveNoControlBytes) {
  Socks5Handshake handshake;
  talk(handshake, kGreeting + request_for("a\33[2J\n.com", 80));
  EXPECT_TRUE(handshake.why().contains("a\\x1b[2J\\x0a.com")) << handshake.why();
}

TEST(Socks5, NamesAreTakenAsResolversWriteThem) {
  EXPECT_EQ(stp_host_of("BETA.STP."), "beta");
  EXPECT_EQ(stp_host_of("beta.shop.stp"), "beta.shop");
  EXPECT_EQ(stp_host_of("beta~2.stp"), "beta~2");
  EXPECT_EQ(stp_host_of(std::string(63, 'b') + "." + std::string(31, 's') + ".stp"), std::string(63, 'b') + "." + std::string(31, 's'));
  EXPECT_FALSE(stp_host_of("beta.stp.."));
}

TEST(Socks5, ErrorsOfAConnectHaveCodes) {
  EXPECT_EQ(socks_reply_for(ECONNREFUSED), SocksReply::kRefused);
  EXPECT_EQ(socks_reply_for(EHOSTUNREACH), SocksReply::kHostUnreachable);
  EXPECT_EQ(socks_reply_for(EHOSTDOWN), SocksReply::kHostUnreachable);
  EXPECT_EQ(socks_reply_for(ENETDOWN), SocksReply::kNetUnreachable);
  EXPECT_EQ(socks_reply_for(ETIMEDOUT), SocksReply::kTimedOut);
  EXPECT_EQ(socks_reply_for(EMFILE), SocksReply::kFailed);
  EXPECT_EQ(socks_reply(SocksReply::kGranted), "\5\0\0\1\0\0\0\0\0\0"s);
}

// Whatever comes: it ends within the longest handshake there is, and keeps to its bounds on the way.
TEST(Socks5, AnyBytesAtAllAreBounded) {
  std::mt19937 random(7);
  int asked = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = round % 2 == 0 ? kGreeting + request_for("beta.stp", 80) : std::string();
    while (text.size() < 600) text += static_cast<char>(random());
    if (round % 2 == 0) text[random() % 16] = static_cast<char>(random() % 7);
    if (round % 3 == 0) text[0] = 5;
    Socks5Handshake handshake;
    std::size_t taken = 0;
    while (handshake.wants() > 0) {
      ASSERT_EQ(handshake.state(), State::kTalking);
      ASSERT_LE(handshake.wants(), 257u);
      const std::size_t count = 1 + random() % handshake.wants();
      handshake.take(as_bytes(std::string_view(text).substr(taken, count)));
      taken += count;
      ASSERT_LE(taken, 2u + 255 + 4 + 1 + 255 + 2);
    }
    ASSERT_NE(handshake.state(), State::kTalking);
    ASSERT_LE(handshake.answer().size(), 12u);
    asked += handshake.state() == State::kAsked;
  }
  EXPECT_GT(asked, 0);
  EXPECT_LT(asked, 20'000);
}

}  // namespace stp::forward
