#include "stp/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace stp {
namespace {

ConstBytes of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Crc32c, GivesTheKnownValues) {
  EXPECT_EQ(crc32c(0, of("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(0, of("")), 0u);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(0, std::vector<std::byte>(32, std::byte{0})), 0x8A9136AAu);
  EXPECT_EQ(crc32c(0, std::vector<std::byte>(32, std::byte{0xff})), 0x62A8AB43u);
  std::vector<std::byte> up(32), down(32);
  for (std::size_t i = 0; i < 32; ++i) {
    up[i] = static_cast<std::byte>(i);
    down[i] = static_cast<std::byte>(31 - i);
  }
  EXPECT_EQ(crc32c(0, up), 0x46DD794Eu);
  EXPECT_EQ(crc32c(0, down), 0x113FDB5Cu);
}

TEST(Crc32c, ContinuesWhereItStopped) {
  const std::string_view text = "a block is one piece, wherever it is cut";
  for (std::size_t cut = 0; cut <= text.size(); ++cut)
    EXPECT_EQ(crc32c(crc32c(0, of(text.substr(0, cut))), of(text.substr(cut))), crc32c(0, of(text)));
}

TEST(Hash64, IsXxh3WithASeed) {
  EXPECT_EQ(hash64(0, of("")), 0x2D06800538D394C2u);
  EXPECT_NE(hash64(0, of("abc")), hash64(1, of("abc")));
}

}  // namespace
}  // namespace stp
