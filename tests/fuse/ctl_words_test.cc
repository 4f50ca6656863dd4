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

}  // namespace
}  // namespace stp::view
