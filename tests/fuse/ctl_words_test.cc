#include "fuse/ctl_words.h"

#include <gtest/gtest.h>

namespace stp::view {
namespace {

using namespace std::chrono_literals;

StpAddress destination(std::string_view text) {
  const auto command = parse_ctl(text);
  if (!command || !std::holds_alternative<ConnectCommand>(*command)) return {};
  return std::get<ConnectCommand>(*command).to;
}

TEST(CtlWords, AreTakenAsPeopleAndPlanNineWriteThem) {
  const StpAddress beta{.host = "beta", .port = 700};
  EXPECT_EQ(destination("connect beta 700\n"), beta);
  EXPECT_EQ(destination("connect beta!700"), beta);
  EXPECT_EQ(destination("connect Beta~2 700"), (StpAddress{.host = "Beta~2", .port = 700}));
  EXPECT_EQ(destination("connect " + std::string(63, 'a') + "." + std::string(31, 'b') + " 700").host.size(), 95u);
  EXPECT_EQ(destination("  connect\tbeta.shop  65535 \n"), (StpAddress{.host = "beta.shop", .port = 65535}));
  EXPECT_EQ(std::get<AnnounceCommand>(*parse_ctl("announce 700\n")).port, 700);
  EXPECT_EQ(std::get<AnnounceCommand>(*parse_ctl("announce *!700")).port, 700);
  EXPECT_EQ(std::get<AnnounceCommand>(*parse_ctl("announce")).port, 0);
  EXPECT_EQ(std::get<TimeoutCommand>(*parse_ctl("timeout 2.5")).span, 2500ms);
  EXPECT_EQ(std::get<TimeoutCommand>(*parse_ctl("timeout 0")).span, 0ms);
  EXPECT_TRUE(std::holds_alternative<HangUpCommand>(*parse_ctl("hangup\n")));
  EXPECT_TRUE(std::holds_alternative<ShutDownCommand>(*parse_ctl("shutdown")));
}

TEST(CtlWords, AnythingElseIsRefusedInWords) {
  for (const std::string_view text : {"",
                                      "\n",
                                      "connect",
                                      "connect beta",
                                      "connect beta 0",
                                      "connect beta 65536",
                                      "connect beta 7x",
                                      "connect !700",
                                      "connect beta 700 now",
                                      "announce -1",
                                      "announce 70000",
                                      "announce 7 8",
                                      "hangup now",
                                      "timeout",
                                      "timeout -1",
                                      "timeout nan",
                                      "timeout 1e300",
                                      "timeout 5s",
                                      "Connect beta 700",
                                      "connect beta 700\nhangup"}) {
    const auto command = parse_ctl(text);
    EXPECT_FALSE(command) << text;
    if (!command) {
      EXPECT_EQ(command.error().code, EINVAL);
      EXPECT_TRUE(command.error().text.starts_with("ctl: expected ")) << command.error().text;
    }
  }
  EXPECT_FALSE(parse_ctl(std::string(100'000, 'x')));
}

TEST(CtlWords, WhatIsNoNameOfAHostIsRefused) {
  using namespace std::string_literals;
  for (const std::string& host : {"beta\0junk"s, "beta\0"s, ".shop"s, "beta."s, "beta.shop.x"s, "be_ta"s, "beta~1"s, "beta~"s, "\xff\xfe"s, std::string(64, 'a'),
                                  "beta." + std::string(32, 'b')}) {
    const auto command = parse_ctl("connect " + host + " 9");
    EXPECT_FALSE(command) << host;
    if (!command) {
      EXPECT_NE(command.error().text.find("a host's name"), std::string::npos) << command.error().text;
    }
    EXPECT_FALSE(parse_ctl("connect " + host + "!9")) << host;
  }
}

}  // namespace
}  // namespace stp::view
