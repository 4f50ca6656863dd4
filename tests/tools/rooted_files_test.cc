#include "tools/rooted_files.h"

#include <fcntl.h>

#include <atomic>
#include <thread>

#include "tests/tools/scratch_dir.h"

namespace stp {

// Each test runs over openat2 and over the walk for kernels without it.
class RootedFilesTest : public testing::TestWithParam<bool> {
 protected:
  RootedFilesTest() {
    scratch_.make("root/dir/sub");
    scratch_.make("outside");
    scratch_.write("outside/secret", "secret");
    scratch_.write("root/file", "content");
    scratch_.write("root/dir/inner", "inner");
  }
  RootedFiles files() const {
    auto files = RootedFiles::open(scratch_.path("root"));
    if (!GetParam()) files->avoid_openat2();
    return std::move(*files);
  }
  FailureCode open_code(const std::string& path) const {
    struct stat status {};
    const auto fd = files().open_for_reading(path, &status);
    EXPECT_FALSE(fd) << path;
    return fd ? FailureCode::kOther : fd.error().code;
  }
  ScratchDir scratch_;
};
INSTANTIATE_TEST_SUITE_P(BothWays, RootedFilesTest, testing::Bool(), [](const auto& way) { return way.param ? "Openat2" : "Walk"; });

TEST_P(RootedFilesTest, OpensWhatIsInside) {
  struct stat status {};
  const auto fd = files().open_for_reading("dir/inner", &status);
  ASSERT_TRUE(fd) << fd.error().text;
  EXPECT_EQ(status.st_size, 5);
  EXPECT_EQ(open_code("nothing"), FailureCode::kNotFound);
  EXPECT_EQ(open_code("file/inner"), FailureCode::kWrongKind);
  EXPECT_EQ(open_code("dir"), FailureCode::kWrongKind);
  EXPECT_EQ(open_code(""), FailureCode::kWrongKind);
}

TEST_P(RootedFilesTest, RefusesPathsThatAreNotBelowTheRoot) {
  for (const char* path : {"..", "../outside/secret", "dir/../../outside/secret", "/etc/passwd", "dir/..", ".", "dir//inner", "dir/"})
    EXPECT_EQ(open_code(path), FailureCode::kRefused) << path;
  EXPECT_EQ(open_code(std::string("file\0x", 6)), FailureCode::kRefused);
  EXPECT_EQ(open_code(std::string(300, 'x')), FailureCode::kRefused);
}

TEST_P(RootedFilesTest, RefusesSymbolicLinksThatLeadOut) {
  ASSERT_EQ(::symlink("../outside/secret", scratch_.path("root/link").c_str()), 0);
  ASSERT_EQ(::symlink(scratch_.path("outside/secret").c_str(), scratch_.path("root/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("../outside", scratch_.path("root/way").c_str()), 0);
  ASSERT_EQ(::symlink("loop", scratch_.path("root/loop").c_str()), 0);
  for (const char* path : {"link", "absolute", "way/secret", "loop"}) EXPECT_EQ(open_code(path), FailureCode::kRefused) << path;
  EXPECT_FALSE(files().make_directory("way/new", 0755, false));
  EXPECT_FALSE(files().remove_file("way/secret"));
  EXPECT_FALSE(files().rename("file", "way/file"));
  EXPECT_FALSE(files().list("way"));
  EXPECT_FALSE(scratch_.has("outside/new"));
  EXPECT_EQ(scratch_.read("outside/secret"), "secret");
  EXPECT_EQ(scratch_.read("root/file"), "content");
}

TEST_P(RootedFilesTest, RemovesALinkAndNotWhatItLeadsTo) {
  ASSERT_EQ(::symlink("../outside/secret", scratch_.path("root/link").c_str()), 0);
  EXPECT_TRUE(files().remove_file("link"));
  EXPECT_FALSE(scratch_.has("root/link"));
  EXPECT_TRUE(scratch_.has("outside/secret"));
}

TEST_P(RootedFilesTest, NeverLeadsOutWhileADirectoryIsSwappedForALink) {
  ASSERT_EQ(::symlink("../outside", scratch_.path("root/swap").c_str()), 0);
  scratch_.make("root/swapped");
  scratch_.write("root/swapped/secret", "public");
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    while (!stop) (void)::renameat2(AT_FDCWD, scratch_.path("root/swap").c_str(), AT_FDCWD, scratch_.path("root/swapped").c_str(), RENAME_EXCHANGE);
  });
  const RootedFiles rooted = files();
  int opened = 0;
  for (int i = 0; i < 3000; ++i) {
    struct stat status {};
    const auto fd = rooted.open_for_reading("swap/secret", &status);
    if (!fd) continue;
    ++opened;
    char text[6] = {};
    ASSERT_EQ(::read(fd->get(), text, sizeof text), 6);
    ASSERT_EQ(std::string(text, 6), "public");
  }
  stop = true;
  swapper.join();
  RecordProperty("opened", opened);
}

TEST_P(RootedFilesTest, AFifoDoesNotBlock) {
  ASSERT_EQ(::mkfifo(scratch_.path("root/fifo").c_str(), 0600), 0);
  EXPECT_EQ(open_code("fifo"), FailureCode::kWrongKind);
}

TEST_P(RootedFilesTest, ListsSortedWithKinds) {
  ASSERT_EQ(::symlink("../outside", scratch_.path("root/out").c_str()), 0);
  const auto entries = files().list("");
  ASSERT_TRUE(entries) << entries.error().text;
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].name, "dir");
  EXPECT_EQ((*entries)[0].kind, FileKind::kDirectory);
  EXPECT_EQ((*entries)[1].name, "file");
  EXPECT_EQ((*entries)[1].size, 7u);
  EXPECT_EQ((*entries)[2].name, "out");
  EXPECT_EQ((*entries)[2].kind, FileKind::kLink);
}

TEST_P(RootedFilesTest, MarksWhatIsReachedThroughALink) {
  ASSERT_EQ(::symlink("dir", scratch_.path("root/same").c_str()), 0);
  const auto entries = files().list("");
  ASSERT_TRUE(entries);
  // The walk follows no link at all.
  EXPECT_EQ(entries->back().kind, GetParam() ? FileKind::kDirectory : FileKind::kLink);
  EXPECT_TRUE(entries->back().through_link);
  EXPECT_FALSE(entries->front().through_link);
}

TEST_P(RootedFilesTest, ChangesTheTreeAndSaysWhyNot) {
  const RootedFiles rooted = files();
  EXPECT_TRUE(rooted.make_directory("new", 0755, false));
  EXPECT_EQ(rooted.make_directory("new", 0755, false).error().code, FailureCode::kExists);
  EXPECT_TRUE(rooted.make_directory("new", 0755, true));
  EXPECT_EQ(rooted.make_directory("file", 0755, true).error().code, FailureCode::kWrongKind);
  EXPECT_EQ(rooted.make_directory("a/b", 0755, false).error().code, FailureCode::kNotFound);
  EXPECT_EQ(rooted.rename("file", "dir/inner").error().code, FailureCode::kExists);
  EXPECT_TRUE(rooted.rename("file", "new/name"));
  EXPECT_EQ(rooted.remove_directory("new").error().code, FailureCode::kExists);
  EXPECT_EQ(rooted.remove_directory("new/name").error().code, FailureCode::kWrongKind);
  EXPECT_EQ(rooted.remove_file("new").error().code, FailureCode::kWrongKind);
  EXPECT_TRUE(rooted.remove_file("new/name"));
  EXPECT_TRUE(rooted.remove_directory("new"));
  EXPECT_EQ(rooted.remove_directory("").error().code, FailureCode::kRefused);
}

}  // namespace stp
