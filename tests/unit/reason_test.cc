#include "stp/reason.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace stp {
namespace {

constexpr Reason kLastReason = Reason::kNotGiven;

TEST(Reasons, EachHasWordsOfItsOwn) {
  const std::string_view unknown = describe(static_cast<Reason>(UINT32_MAX));
  EXPECT_NE(unknown.find("this version does not know"), std::string_view::npos);
  std::set<std::string_view> all;
  for (std::uint32_t number = 0; number <= static_cast<std::uint32_t>(kLastReason); ++number) {
    const std::string_view words = describe(static_cast<Reason>(number));
    EXPECT_NE(words, unknown) << number;
    EXPECT_TRUE(all.insert(words).second) << number << ": " << words;
  }
  EXPECT_EQ(describe(static_cast<Reason>(static_cast<std::uint32_t>(kLastReason) + 1)), unknown) << "a new reason: say so here";
}

}  // namespace
}  // namespace stp
