#include "tools/part_file.h"

#include <fcntl.h>

#include <limits>

#include "tests/tools/scratch_dir.h"

namespace stp {

class PartFileTest : public testing::Test {
 protected:
  Outcome<PartFile> begin(const SourceIdentity& source, const std::string& name = "x") {
    const auto files = RootedFiles::open(scratch_.path());
    auto place = files->open_parent(name);
    return PartFile::begin(std::move(*place), name, source);
  }
  // Begins, writes, and leaves it as a transfer that died would.
  void leave(const SourceIdentity& source, const std::string& content) {
    auto part = begin(source);
    ASSERT_TRUE(part) << part.error().text;
    ASSERT_TRUE(part->start_at(0));
    ASSERT_EQ(::write(part->fd(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
  }
  ScratchDir scratch_;
};

TEST_F(PartFileTest, GetsItsNameOnlyAtTheEnd) {
  auto part = begin({5, 981173106'789000000});
  ASSERT_TRUE(part) << part.error().text;
  ASSERT_TRUE(part->start_at(0));
  ASSERT_EQ(::write(part->fd(), "hello", 5), 5);
  EXPECT_FALSE(scratch_.has("x"));
  EXPECT_TRUE(scratch_.has("x.part"));
  ASSERT_TRUE(part->commit(0640));
  EXPECT_EQ(scratch_.read("x"), "hello");
  EXPECT_FALSE(scratch_.has("x.part"));
  EXPECT_FALSE(scratch_.has("x.part.info"));
  struct stat status {};
  ASSERT_EQ(::stat(scratch_.path("x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(status.st_mtim.tv_sec, 981173106);
  EXPECT_EQ(status.st_mtim.tv_nsec, 789000000);
}

TEST_F(PartFileTest, TimesBefore1970Survive) {
  auto part = begin({0, -1});
  ASSERT_TRUE(part && part->start_at(0) && part->commit(0600));
  struct stat status {};
  ASSERT_EQ(::stat(scratch_.path("x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mtim.tv_sec, -1);
  EXPECT_EQ(status.st_mtim.tv_nsec, 999999999);
}

// Nothing overflows on the way, which a sanitizer sees. A file system takes the earliest time that it knows.
TEST_F(PartFileTest, TheEarliestTimeThatCanBeSaidIsTaken) {
  auto part = begin({0, std::numeric_limits<std::int64_t>::min()});
  ASSERT_TRUE(part && part->start_at(0) && part->commit(0600));
  struct stat status {};
  ASSERT_EQ(::stat(scratch_.path("x").c_str(), &status), 0);
  EXPECT_LE(status.st_mtim.tv_sec, std::numeric_limits<std::int32_t>::min());
}

TEST_F(PartFileTest, ResumesTheSameSourceOnly) {
  leave({10, 7}, "01234");
  EXPECT_EQ(begin({10, 7})->resumable(), 5u);
  EXPECT_EQ(begin({10, 8})->resumable(), 0u) << "another time";
  EXPECT_EQ(begin({10, 8})->resumable(), 0u);
  leave({10, 7}, "01234");
  EXPECT_EQ(begin({11, 7})->resumable(), 0u) << "another size";
}

TEST_F(PartFileTest, CutsWhatIsNotToBeResumed) {
  leave({10, 7}, "01234");
  auto part = begin({10, 7});
  EXPECT_FALSE(part->start_at(6));
  ASSERT_TRUE(part->start_at(2));
  EXPECT_EQ(scratch_.read("x.part"), "01");
}

TEST_F(PartFileTest, TwoTransfersOfOneNameAreRefused) {
  const auto first = begin({10, 7});
  ASSERT_TRUE(first);
  const auto second = begin({10, 7});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, FailureCode::kBusy);
}

TEST_F(PartFileTest, NeverTouchesAFileThatOnlyHasTheName) {
  scratch_.write("x.part", "precious");
  const auto part = begin({10, 7});
  ASSERT_FALSE(part);
  EXPECT_EQ(part.error().code, FailureCode::kExists);
  EXPECT_EQ(scratch_.read("x.part"), "precious");
  EXPECT_FALSE(scratch_.has("x.part.info"));

  scratch_.write("y.part.info", "precious");
  EXPECT_EQ(begin({10, 7}, "y").error().code, FailureCode::kExists);
  EXPECT_EQ(scratch_.read("y.part.info"), "precious");
}

TEST_F(PartFileTest, DoesNotWriteThroughALink) {
  scratch_.write("elsewhere", "precious");
  ASSERT_EQ(::symlink("elsewhere", scratch_.path("x.part").c_str()), 0);
  EXPECT_FALSE(begin({10, 7}));
  ASSERT_EQ(::symlink("elsewhere", scratch_.path("y.part.info").c_str()), 0);
  EXPECT_FALSE(begin({10, 7}, "y"));
  EXPECT_EQ(scratch_.read("elsewhere"), "precious");
}

TEST_F(PartFileTest, ADirectoryIsNotReplaced) {
  scratch_.make("x");
  EXPECT_EQ(begin({10, 7}).error().code, FailureCode::kWrongKind);
}

TEST_F(PartFileTest, DamagedInfoMeansFromTheBeginning) {
  leave({10, 7}, "01234");
  scratch_.write("x.part.info", "stp-ftp partial transfer 1\nsize banana\n");
  EXPECT_EQ(begin({10, 7})->resumable(), 0u);
}

TEST_F(PartFileTest, InfoWhoseContentWasLostWithThePowerProvesNothingAndIsInNobodysWay) {
  scratch_.write("x.part.info", std::string(69, '\0'));
  leave({10, 7}, "01234");
  EXPECT_EQ(begin({10, 7})->resumable(), 5u);
  scratch_.write("x.part.info", std::string(69, '\0'));
  const auto part = begin({10, 7});
  ASSERT_FALSE(part) << "x.part may be anybody's";
  EXPECT_EQ(part.error().code, FailureCode::kExists);
  EXPECT_EQ(scratch_.read("x.part"), "01234");
}

TEST_F(PartFileTest, DiscardLeavesNothing) {
  leave({10, 7}, "01234");
  begin({10, 7})->discard();
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path()));
}

TEST_F(PartFileTest, APartThatWasSwappedIsNotGivenTheName) {
  auto part = begin({5, 7});
  ASSERT_TRUE(part->start_at(0));
  ASSERT_EQ(::rename(scratch_.path("x.part").c_str(), scratch_.path("stolen").c_str()), 0);
  scratch_.write("x.part", "other");
  EXPECT_EQ(part->commit(0600).error().code, FailureCode::kChanged);
  EXPECT_FALSE(scratch_.has("x"));
}

TEST_F(PartFileTest, ANameWithoutRoomForTheSuffixIsRefused) { EXPECT_FALSE(begin({10, 7}, std::string(250, 'x'))); }

}  // namespace stp
