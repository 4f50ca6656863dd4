// stp-ftp's client against stp-ftpd's server: what is moved, resumed, refused.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <memory>

#include "tests/tools/ftp_session.h"
#include "tools/ftp_shell.h"

namespace stp::ftp {

namespace {
constexpr std::size_t kMiB = std::size_t{1} << 20;
}  // namespace

TEST_F(FtpSessionTest, FilesOfAllSizesGoBothWays) {
  start_server();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kMiB - 1, kMiB, kMiB + 1, 2 * kMiB, 9 * kMiB + 13}) {
    const std::string content = some_bytes(size, static_cast<unsigned>(size));
    scratch_.write("local/f", content);
    Watched watched;
    const auto sent = put("f", watched);
    ASSERT_TRUE(sent) << sent.error().text;
    EXPECT_EQ(watched.done, 1);
    EXPECT_EQ(watched.moved, size);
    ASSERT_EQ(scratch_.read("root/f") == content, true) << size;
    scratch_.write("local/f", "old");
    const auto fetched = get("f", watched);
    ASSERT_TRUE(fetched) << fetched.error().text;
    ASSERT_EQ(scratch_.read("local/f") == content, true) << size;
  }
  expect_nothing_partial("root");
  expect_nothing_partial("local");
}

TEST_F(FtpSessionTest, ModeAndTimeAreKept) {
  start_server();
  scratch_.write("local/f", "x");
  ASSERT_EQ(::chmod(scratch_.path("local/f").c_str(), 0751), 0);
  const timespec times[2] = {{1, 2}, {981173106, 789}};
  ASSERT_EQ(::utimensat(AT_FDCWD, scratch_.path("local/f").c_str(), times, 0), 0);
  Watched watched;
  ASSERT_TRUE(put("f", watched));
  scratch_.write("local/f", "y");
  ASSERT_TRUE(get("f", watched));
  for (const char* name : {"root/f", "local/f"}) {
    struct stat status {};
    ASSERT_EQ(::stat(scratch_.path(name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0751u) << name;
    EXPECT_EQ(status.st_mtim.tv_sec, 981173106) << name;
    EXPECT_EQ(status.st_mtim.tv_nsec, 789) << name;
  }
}

TEST_F(FtpSessionTest, AnInterruptedPutResumesWhereItEnded) {
  start_server();
  const std::string content = some_bytes(16 * kMiB, 1);
  scratch_.write("local/f", content);
  Watched first;
  first.cancel = &cancelled_;
  first.cancel_at = 8 * kMiB;
  EXPECT_EQ(put("f", first).error().code, FailureCode::kInterrupted);
  EXPECT_FALSE(scratch_.has("root/f"));
  stop_server();  // the session has seen the end, and left the part
  EXPECT_TRUE(scratch_.has("root/f.part"));
  cancelled_ = false;
  start_server();
  Watched second;
  const auto done = put("f", second);
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_GT(second.resumed_at, 0u);
  EXPECT_EQ(second.resumed_at + second.moved, content.size());
  EXPECT_EQ(scratch_.read("root/f") == content, true);
  expect_nothing_partial("root");
}

TEST_F(FtpSessionTest, AnInterruptedGetResumesWhereItEnded) {
  start_server();
  const std::string content = some_bytes(16 * kMiB, 2);
  scratch_.write("root/f", content);
  Watched first;
  first.cancel = &cancelled_;
  first.cancel_at = 8 * kMiB;
  EXPECT_EQ(get("f", first).error().code, FailureCode::kInterrupted);
  EXPECT_FALSE(scratch_.has("local/f"));
  EXPECT_TRUE(scratch_.has("local/f.part"));
  cancelled_ = false;
  Watched second;
  const auto done = get("f", second);
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_GE(second.resumed_at, 8 * kMiB);
  EXPECT_EQ(second.resumed_at + second.moved, content.size());
  EXPECT_EQ(scratch_.read("local/f") == content, true);
  expect_nothing_partial("local");
}

// What is left of a transfer, with other bytes than the source has there.
void plant_part(const ScratchDir& scratch, const std::string& directory, const std::string& source, const std::string& content) {
  struct stat status {};
  ASSERT_EQ(::stat(scratch.path(source).c_str(), &status), 0);
  const FileEntry entry = entry_of("", status);
  auto files = RootedFiles::open(scratch.path(directory));
  auto part = PartFile::begin(std::move(*files->open_parent("f")), "f", {entry.size, entry.mtime_ns});
  ASSERT_TRUE(part && part->start_at(0));
  ASSERT_EQ(::write(part->fd(), content.data(), content.size()), static_cast<ssize_t>(content.size()));
}

TEST_F(FtpSessionTest, APartWithOtherBytesIsNotResumed) {
  start_server();
  const std::string content = some_bytes(4 * kMiB, 3);
  scratch_.write("local/f", content);
  plant_part(scratch_, "root", "local/f", some_bytes(kMiB, 99));
  Watched watched;
  ASSERT_TRUE(put("f", watched));
  EXPECT_EQ(watched.resumed_at, 0u);
  EXPECT_EQ(scratch_.read("root/f") == content, true);
  std::filesystem::remove(scratch_.path("local/f"));
  plant_part(scratch_, "local", "root/f", some_bytes(kMiB, 99));
  ASSERT_TRUE(get("f", watched));
  EXPECT_EQ(watched.resumed_at, 0u);
  EXPECT_EQ(scratch_.read("local/f") == content, true);
}

TEST_F(FtpSessionTest, APutThatArrivesDamagedLeavesNothing) {
  start_server();
  for (const std::size_t size : {std::size_t{1000}, 5 * kMiB}) {
    scratch_.write("local/f", some_bytes(size, 4));
    shim::corrupt_sent_byte(size - 100);
    Watched watched;
    const auto done = put("f", watched);
    shim::corrupt_sent_byte(0);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, FailureCode::kChecksum) << done.error().text;
    EXPECT_TRUE(std::filesystem::is_empty(scratch_.path("root")));
  }
}

TEST_F(FtpSessionTest, AGetThatArrivesDamagedLeavesNothing) {
  start_server();
  scratch_.write("root/f", some_bytes(5 * kMiB, 5));
  shim::corrupt_sent_byte(3 * kMiB);
  Watched watched;
  const auto done = get("f", watched);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, FailureCode::kChecksum) << done.error().text;
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path("local")));
}

// Files longer than this fail with EFBIG in this process, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::size_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_F(FtpSessionTest, AFullDiskHasItsOwnStatusAndCanBeResumed) {
  start_server();
  const std::string content = some_bytes(16 * kMiB, 6);
  scratch_.write("local/up", content);
  scratch_.write("root/down", content);
  Watched watched;
  {
    const FileSizeLimit limit(5 * kMiB);
    const auto up = put("up", watched);
    ASSERT_FALSE(up);
    EXPECT_EQ(up.error().code, FailureCode::kDiskFull) << up.error().text;
    EXPECT_FALSE(scratch_.has("root/up"));
    const auto down = get("down", watched);
    ASSERT_FALSE(down);
    EXPECT_EQ(down.error().code, FailureCode::kDiskFull) << down.error().text;
    EXPECT_FALSE(scratch_.has("local/down"));
  }
  ASSERT_TRUE(put("up", watched));
  ASSERT_TRUE(get("down", watched));
  EXPECT_EQ(scratch_.read("root/up") == content, true);
  EXPECT_EQ(scratch_.read("local/down") == content, true);
}

TEST_F(FtpSessionTest, ASmallFileOnAFullDiskDoesNotDisturbTheNext) {
  start_server();
  scratch_.write("local/a", some_bytes(kMiB / 2, 7));
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  const std::vector<PutItem> items{{scratch_.path("local/a"), "a"}};
  Watched watched;
  {
    const FileSizeLimit limit(kMiB / 4);
    const auto done = client.put(items, watched);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, FailureCode::kDiskFull) << done.error().text;
  }
  const auto done = client.put(items, watched);
  EXPECT_TRUE(done) << done.error().text;
}

TEST_F(FtpSessionTest, OneFailureOfManyIsNamedAndTheOthersArrive) {
  start_server();
  std::vector<PutItem> items;
  for (int i = 0; i < 60; ++i) {
    const std::string name = fmt::format("f{}", i);
    scratch_.write("local/" + name, name);
    items.push_back({scratch_.path("local/" + name), name});
  }
  scratch_.make("root/f37");  // a directory in the way
  std::filesystem::remove(scratch_.path("local/f48"));
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  Watched watched;
  const auto done = client.put(items, watched);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, FailureCode::kSomeFailed);
  EXPECT_EQ(watched.done, 58);
  ASSERT_EQ(watched.failed.size(), 2u);
  EXPECT_EQ(scratch_.read("root/f59"), "f59");

  std::vector<GetItem> back;
  for (int i = 0; i < 60; ++i)
    if (i != 37 && i != 48) back.push_back(*get_item(fmt::format("f{}", i), *client.stat(fmt::format("f{}", i)), scratch_.path(fmt::format("local/g{}", i))));
  std::filesystem::remove(scratch_.path("root/f5"));
  Watched fetched;
  EXPECT_EQ(client.get(back, fetched).error().code, FailureCode::kSomeFailed);
  EXPECT_EQ(fetched.done, 57);
  EXPECT_EQ(scratch_.read("local/g59"), "f59");
}

TEST_F(FtpSessionTest, MissingFilesAndWrongKindsHaveTheirStatus) {
  start_server();
  scratch_.make("root/dir");
  Watched watched;
  EXPECT_EQ(get("nothing", watched).error().code, FailureCode::kNotFound);
  EXPECT_EQ(get("dir", watched).error().code, FailureCode::kWrongKind);
  EXPECT_EQ(put("nothing", watched).error().code, FailureCode::kNotFound);
  scratch_.write("local/dir", "x");
  EXPECT_EQ(put("dir", watched).error().code, FailureCode::kWrongKind);
}

TEST_F(FtpSessionTest, NoPermissionHasItsStatus) {
  scratch_.write("root/f", "x");
  ASSERT_EQ(::chmod(scratch_.path("root/f").c_str(), 0), 0);
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(scratch_.path("root").c_str(), 0555), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // Root may do everything: the files are asked as nobody.
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(99);
    const auto files = RootedFiles::open(scratch_.path("root"));
    struct stat status {};
    const auto fd = files->open_for_reading("f", &status);
    const auto made = files->make_directory("d", 0755, false);
    auto place = files->open_parent("g");
    const auto part = PartFile::begin(std::move(*place), "g", {1, 1});
    const bool right = !fd && fd.error().code == FailureCode::kPermission && !made && made.error().code == FailureCode::kPermission && !part &&
                       part.error().code == FailureCode::kPermission;
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 99) GTEST_SKIP() << "cannot give up root here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(FtpSessionTest, AReadOnlyServerTakesNothing) {
  ServerOptions options;
  options.read_only = true;
  start_server(options);
  scratch_.write("local/f", "x");
  scratch_.write("local/g", some_bytes(3 * kMiB, 8));
  Watched watched;
  EXPECT_EQ(put("f", watched).error().code, FailureCode::kRefused);
  EXPECT_EQ(put("g", watched).error().code, FailureCode::kRefused);
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  EXPECT_EQ(client.make_directory("d", 0755, false).error().code, FailureCode::kRefused);
  EXPECT_EQ(client.remove_file("f").error().code, FailureCode::kRefused);
  EXPECT_EQ(client.rename("f", "g").error().code, FailureCode::kRefused);
  EXPECT_TRUE(client.list(""));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path("root")));
}

TEST_F(FtpSessionTest, MoreClientsThanAllowedAreToldSo) {
  ServerOptions options;
  options.max_clients = 2;
  start_server(options);
  Client first(&cancelled_), second(&cancelled_), third(&cancelled_);
  ASSERT_TRUE(connect(first));
  ASSERT_TRUE(connect(second));
  const auto refused = connect(third);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, FailureCode::kCannotConnect);
  EXPECT_NE(refused.error().text.find("busy"), std::string::npos) << refused.error().text;
  EXPECT_TRUE(first.list(""));
}

TEST_F(FtpSessionTest, ClientsAreServedSideBySide) {
  start_server();
  const std::string content = some_bytes(4 * kMiB, 9);
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 4; ++i) {
    scratch_.write(fmt::format("local/f{}", i), content);
    clients.emplace_back([&, i] {
      Watched watched;
      right += put(fmt::format("f{}", i), watched).has_value() && get(fmt::format("f{}", i), watched).has_value();
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(scratch_.read(fmt::format("root/f{}", i)) == content, true);
}

TEST_F(FtpSessionTest, AnUpdateLeavesOutWhatIsThere) {
  start_server();
  const auto ignore = [](const std::string&) {};
  scratch_.make("local/tree/sub");
  scratch_.write("local/tree/a", "a");
  scratch_.write("local/tree/sub/b", "b");
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  Watched watched;
  ASSERT_TRUE(client.put(*expand_put_tree(client, scratch_.path("local/tree"), "tree", true, ignore), watched));
  EXPECT_EQ(watched.done, 2);
  EXPECT_TRUE(expand_put_tree(client, scratch_.path("local/tree"), "tree", true, ignore)->empty());
  EXPECT_EQ(expand_put_tree(client, scratch_.path("local/tree"), "tree", false, ignore)->size(), 2u);
  EXPECT_TRUE(expand_get_tree(client, "tree", scratch_.path("local/tree"), true, ignore)->empty());
  scratch_.write("local/tree/sub/b", "longer");
  const auto rest = expand_put_tree(client, scratch_.path("local/tree"), "tree", true, ignore);
  ASSERT_EQ(rest->size(), 1u);
  EXPECT_EQ(rest->front().remote, "tree/sub/b");
  EXPECT_EQ(expand_get_tree(client, "tree", scratch_.path("local/tree"), true, ignore)->size(), 1u);
}

TEST_F(FtpSessionTest, NobodyThereIsCannotConnect) {
  Client client(&cancelled_);
  EXPECT_EQ(connect(client).error().code, FailureCode::kCannotConnect);
}

}  // namespace stp::ftp
