#include "tools/ftp_words.h"

#include <gtest/gtest.h>

#include "tools/ftp_trees.h"
#include "tools/transfer_progress.h"

namespace stp::ftp {

using Commands = std::vector<Words>;

TEST(FtpWords, CommandsAndWordsAreSplit) {
  EXPECT_EQ(*parse_commands("put a b; get c"), (Commands{{"put", "a", "b"}, {"get", "c"}}));
  EXPECT_EQ(*parse_commands("ls\n\n;; # nothing\ncd x#y # but this"), (Commands{{"ls"}, {"cd", "x#y"}}));
  EXPECT_EQ(*parse_commands(""), Commands{});
}

TEST(FtpWords, QuotesKeepBlanksAndSeparators) {
  EXPECT_EQ(*parse_commands("get 'a; b' \"c \\\" d\" e\\ f ''"), (Commands{{"get", "a; b", "c \" d", "e f", ""}}));
  EXPECT_EQ(parse_commands("get 'a").error().code, FailureCode::kUsage);
}

TEST(FtpWords, RemotePathsStayBelowTheRoot) {
  EXPECT_EQ(*resolve_path("a/b", "c"), "a/b/c");
  EXPECT_EQ(*resolve_path("a/b", "../c/./d//"), "a/c/d");
  EXPECT_EQ(*resolve_path("a/b", "/c"), "c");
  EXPECT_EQ(*resolve_path("a/b", ""), "a/b");
  EXPECT_EQ(*resolve_path("a/b", "../.."), "");
  EXPECT_EQ(resolve_path("a/b", "../../..").error().code, FailureCode::kRefused);
  EXPECT_EQ(resolve_path("", "../etc/passwd").error().code, FailureCode::kRefused);
}

TEST(FtpWords, PathsComeApartAndTogether) {
  EXPECT_EQ(base_of("a/b/"), "b");
  EXPECT_EQ(base_of("a"), "a");
  EXPECT_EQ(parent_of("a/b"), "a");
  EXPECT_EQ(parent_of("/a"), "/");
  EXPECT_EQ(parent_of("a"), "");
  EXPECT_EQ(join_path("", "a"), "a");
  EXPECT_EQ(join_path("b/", "a"), "b/a");
}

TEST(FtpTrees, PartialFilesAreToldByTheirCompanion) {
  const auto beside = [](const std::string& name) { return name == "x.part" || name == "x.part.info"; };
  EXPECT_TRUE(is_partial_file("x.part", beside));
  EXPECT_TRUE(is_partial_file("x.part.info", beside));
  EXPECT_FALSE(is_partial_file("y.part", beside));
  EXPECT_FALSE(is_partial_file("x", beside));
  EXPECT_FALSE(is_partial_file(".part", beside));
}

TEST(TransferProgress, TheLineFitsTheTerminal) {
  EXPECT_EQ(size_text(312), "312 B");
  EXPECT_EQ(size_text(std::uint64_t{3} << 29), "1.5 GiB");
  EXPECT_EQ(duration_text(std::chrono::seconds(3723)), "1:02:03");
  for (const unsigned columns : {60u, 80u, 120u, 200u}) {
    const std::string line = progress_line("some-name", 512 << 20, 1 << 30, 64 << 20, columns);
    EXPECT_LT(line.size(), columns);
    EXPECT_NE(line.find("50%"), std::string::npos) << line;
    EXPECT_NE(line.find("0:08 left"), std::string::npos) << line;
  }
  EXPECT_NE(progress_line("n", 0, 0, 0, 80).find("100%"), std::string::npos);
}

}  // namespace stp::ftp
