#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"

int main(int argc, char** argv) {
  if (const int status = stp::test::play_role(argc, argv); status >= 0) return status;
  ::testing::InitGoogleTest(&argc, argv);
  const char* const timing = std::getenv("STP_TEST_TIMING");
  if (const int status = timing != nullptr ? stp::test::make_storage(timing) : stp::test::make_storage(); status != 0) return status;
  const int result = RUN_ALL_TESTS();
  stp::test::remove_storage();
  return result;
}
