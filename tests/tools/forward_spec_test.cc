#include "tools/forward_spec.h"

#include <gtest/gtest.h>

namespace stp::forward {

namespace {

// What it reads as, written out in full; or "!" and the words.
std::string read_as(Direction direction, std::string_view text) {
  const auto spec = parse_forward_spec(direction, text);
  if (!spec) return "!" + spec.error().text;
  // What is shown is read back as the same.
  const std::string shown = to_string(*spec);
  const auto again = parse_forward_spec(direction, shown.substr(3));
  EXPECT_TRUE(again && *again == *spec) << shown;
  return shown;
}

bool refused(Direction direction, std::string_view text, std::string_view words) {
  const std::string said = read_as(direction, text);
  EXPECT_TRUE(said.starts_with('!') && said.contains(words)) << text << ": " << said;
  return said.starts_with('!') && said.contains(words);
}

}  // namespace

TEST(ForwardSpec, LocalListensOnTheLoopbackUnlessItIsToldOtherwise) {
  EXPECT_EQ(read_as(Direction::kLocal, "8080:beta:80"), "-L 127.0.0.1:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, "localhost:8080:beta:80"), "-L 127.0.0.1:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, "10.1.2.3:8080:beta:80"), "-L 10.1.2.3:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, "*:8080:beta:80"), "-L *:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, ":8080:beta:80"), "-L *:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, "[::1]:8080:beta:80"), "-L [::1]:8080:beta:80");
  EXPECT_EQ(read_as(Direction::kLocal, "[fe80::1%eth0]:8080:beta:80"), "-L [fe80::1%eth0]:8080:beta:80");
}

TEST(ForwardSpec, LocalNamesAnStpHost) {
  EXPECT_EQ(read_as(Direction::kLocal, "1:Beta.Shop:65535"), "-L 127.0.0.1:1:beta.shop:65535");
  EXPECT_EQ(read_as(Direction::kLocal, "1:beta~2:2"), "-L 127.0.0.1:1:beta~2:2");
  refused(Direction::kLocal, "8080:be_ta:80", "\"be_ta\" is not an STP host");
  refused(Direction::kLocal, "8080::80", "is not an STP host");
  refused(Direction::kLocal, "8080:beta.:80", "is not an STP host");
  refused(Direction::kLocal, "8080:" + std::string(64, 'b') + ":80", "is not an STP host");
  refused(Direction::kLocal, "8080:beta." + std::string(32, 's') + ":80", "is not an STP host");
}

TEST(ForwardSpec, LocalMayBeAUnixSocketWithAnythingInItsPath) {
  const auto spec = parse_forward_spec(Direction::kLocal, "/run/my socket:1:x:beta:80");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->kernel.path, "/run/my socket:1:x");
  EXPECT_EQ(spec->stp, (StpAddress{.host = "beta", .port = 80}));
  EXPECT_EQ(read_as(Direction::kLocal, "/run/my socket:1:x:beta:80"), "-L /run/my socket:1:x:beta:80");
  refused(Direction::kLocal, "/:beta:80", "path of the Unix socket is missing");
  refused(Direction::kLocal, "/" + std::string(107, 'a') + ":beta:80", "at most 107 bytes");
  EXPECT_EQ(read_as(Direction::kLocal, "/" + std::string(106, 'a') + ":beta:80"), "-L /" + std::string(106, 'a') + ":beta:80");
  refused(Direction::kLocal, "/a\nok:beta:80", "control bytes");
  refused(Direction::kLocal, std::string_view("/a\0b:beta:80", 12), "control bytes");
}

TEST(ForwardSpec, WhatIsNotALocalOneSaysWhatWasExpected) {
  for (const char* text : {"",
                           ":",
                           "::",
                           ":::",
                           "8080",
                           "8080:beta",
                           "beta:80",
                           "8080:beta:",
                           "8080:beta:http",
                           ":beta:80",
                           "0:beta:80",
                           "65536:beta:80",
                           "8080:beta:0",
                           "8080:beta:-1",
                           "8080:beta: 80",
                           "8080:beta:80 ",
                           "+1:beta:80",
                           "1.2.3:80:beta:80",
                           "name:80:beta:80",
                           "::1:8080:beta:80",
                           "[::1]8080:beta:80",
                           "[::1:8080:beta:80",
                           "[]:8080:beta:80",
                           "[127.0.0.1]:8080:beta:80",
                           "relative/path:beta:80"})
    refused(Direction::kLocal, text, "expected [ADDR:]PORT:HOST:PORT or /PATH:HOST:PORT");
}

TEST(ForwardSpec, RemoteConnectsToNamesAddressesAndUnixSockets) {
  EXPECT_EQ(read_as(Direction::kRemote, "80:127.0.0.1:8080"), "-R 80:127.0.0.1:8080");
  EXPECT_EQ(read_as(Direction::kRemote, "80:www.example.com:8080"), "-R 80:www.example.com:8080");
  EXPECT_EQ(read_as(Direction::kRemote, "80:[2001:db8::1]:8080"), "-R 80:[2001:db8::1]:8080");
  EXPECT_EQ(read_as(Direction::kRemote, "80:/run/a:b.sock"), "-R 80:/run/a:b.sock");
  for (const char* text : {"", "80", "80:", ":127.0.0.1:80", "80:8080", "80::8080", "80:host", "80:host:", "80:host:0", "80:ho st:1",
                           "80:a:b:1", "80:[host]:1", "80:[::1]", "70000:host:1", "x:host:1", "80:/", "80:*:1"})
    refused(Direction::kRemote, text, "expected PORT:ADDR:PORT or PORT:/PATH");
}

TEST(ForwardSpec, DynamicIsAPlaceToListenOn) {
  EXPECT_EQ(read_as(Direction::kDynamic, "1080"), "-D 127.0.0.1:1080");
  EXPECT_EQ(read_as(Direction::kDynamic, "[::]:1080"), "-D [::]:1080");
  EXPECT_EQ(read_as(Direction::kDynamic, "*:1080"), "-D *:1080");
  for (const char* text : {"", "x", "0", "127.0.0.1", "127.0.0.1:", "/path", "1080:beta:80"})
    refused(Direction::kDynamic, text, "expected [ADDR:]PORT");
}

TEST(ForwardSpec, TheOptionAndTheTextAreNamed) { refused(Direction::kRemote, "nonsense", "-R nonsense: "); }

}  // namespace stp::forward
