#include "tools/pipe_pump.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <future>
#include <thread>

#include "hostlib/unique_fd.h"
#include "tests/tools/scratch_dir.h"

namespace stp {

namespace {

struct Pipe {
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) std::abort();
    read.reset(fds[0]);
    write.reset(fds[1]);
  }
  UniqueFd read, write;
};

std::string read_to_end(int fd) {
  std::string out;
  char buffer[65536];
  for (ssize_t n; (n = ::read(fd, buffer, sizeof buffer)) > 0;) out.append(buffer, static_cast<std::size_t>(n));
  return out;
}

void write_all(int fd, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
    if (n <= 0) return;
    at += static_cast<std::size_t>(n);
  }
}

}  // namespace

class PipePumpTest : public testing::Test {
 protected:
  PipePumpTest() {
    static int number = 0;
    ::setenv("STP_STG", fmt::format("pipe-{}-{}", ::getpid(), ++number).c_str(), 1);
    ::setenv("STP_HOST", "beta", 1);
    ::signal(SIGPIPE, SIG_IGN);
    auto listener = Listener::listen(7000, 1, nullptr);
    a_ = std::move(*connect_stream("beta", 7000, std::chrono::milliseconds(0), nullptr));
    b_ = std::move(*listener->accept());
  }
  // The end of a is gone with what b sends unread, which resets the connection; b is to say so.
  void vanish_from(std::future<Outcome<PipeTotals>>& b, const Pipe& b_in) {
    write_all(b_in.write.get(), "lost");
    while (!a_.readable()) std::this_thread::yield();
    a_.abort();
    const auto end = b.get();
    ASSERT_FALSE(end);
    EXPECT_EQ(end.error().code, FailureCode::kPeerGone) << end.error().text;
  }
  Stream a_, b_;
};

// One side of `stp pipe` in a thread.
std::future<Outcome<PipeTotals>> start(Stream stream, int in, int out) {
  return std::async(std::launch::async, [kept = std::move(stream), in, out]() mutable { return pump(std::move(kept), in, out); });
}

TEST_F(PipePumpTest, BothDirectionsAtOnceArriveWhole) {
  Pipe a_in, a_out, b_in, b_out;
  auto a = start(std::move(a_), a_in.read.get(), a_out.write.release());
  auto b = start(std::move(b_), b_in.read.get(), b_out.write.release());
  const std::string to_b = some_bytes(5 << 20, 1), to_a = some_bytes(3 << 20, 2);
  auto at_a = std::async(std::launch::async, [&] { return read_to_end(a_out.read.get()); });
  auto at_b = std::async(std::launch::async, [&] { return read_to_end(b_out.read.get()); });
  std::thread writer([&] {
    write_all(a_in.write.get(), to_b);
    a_in.write.reset();
  });
  write_all(b_in.write.get(), to_a);
  b_in.write.reset();
  writer.join();
  EXPECT_EQ(at_a.get() == to_a, true);
  EXPECT_EQ(at_b.get() == to_b, true);
  EXPECT_EQ(a.get()->sent, to_b.size());
  EXPECT_EQ(b.get()->received, to_b.size());
}

TEST_F(PipePumpTest, TheEndOfOneDirectionDoesNotEndTheOther) {
  Pipe a_in, a_out, b_in, b_out;
  auto a = start(std::move(a_), a_in.read.get(), a_out.write.release());
  auto b = start(std::move(b_), b_in.read.get(), b_out.write.release());
  write_all(a_in.write.get(), "question");
  a_in.write.reset();
  // b's reader sees the end while b still has everything to say.
  EXPECT_EQ(read_to_end(b_out.read.get()), "question");
  write_all(b_in.write.get(), "answer");
  b_in.write.reset();
  EXPECT_EQ(read_to_end(a_out.read.get()), "answer");
  EXPECT_TRUE(a.get());
  EXPECT_TRUE(b.get());
}

TEST_F(PipePumpTest, WithoutInputItOnlyReceives) {
  Pipe a_in, a_out, b_out;
  auto a = start(std::move(a_), a_in.read.get(), a_out.write.release());
  auto b = start(std::move(b_), -1, b_out.write.release());
  write_all(a_in.write.get(), "news");
  a_in.write.reset();
  EXPECT_EQ(read_to_end(b_out.read.get()), "news");
  EXPECT_EQ(read_to_end(a_out.read.get()), "");
  EXPECT_TRUE(a.get());
  EXPECT_TRUE(b.get());
}

TEST_F(PipePumpTest, AClosedOutputIsALocalFailureAndDoesNotHang) {
  Pipe a_in, a_out, b_in, b_out;
  b_out.read.reset();
  auto a = start(std::move(a_), a_in.read.get(), a_out.write.release());
  auto b = start(std::move(b_), b_in.read.get(), b_out.write.release());
  write_all(a_in.write.get(), "unheard");
  const auto end = b.get();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code, FailureCode::kIo) << end.error().text;
  a_in.write.reset();
  (void)a.get();
}

TEST_F(PipePumpTest, AVanishedPeerIsSaidWhileInputIsQuiet) {
  Pipe b_in, b_out;
  auto b = start(std::move(b_), b_in.read.get(), b_out.write.release());
  vanish_from(b, b_in);
}

TEST_F(PipePumpTest, APeerThatHasEndedAndThenVanishesIsSaidWhileInputIsQuiet) {
  Pipe b_in, b_out;
  auto b = start(std::move(b_), b_in.read.get(), b_out.write.release());
  ASSERT_TRUE(a_.finish_sending());
  EXPECT_EQ(read_to_end(b_out.read.get()), "");
  vanish_from(b, b_in);
}

}  // namespace stp
