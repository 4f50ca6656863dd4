// stp-ftp's client and stp-ftpd's server in one process, over the stand-in for libstp.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/tools/scratch_dir.h"
#include "tests/tools/unix_shim.h"
#include "tools/ftp_client.h"
#include "tools/ftp_server.h"
#include "tools/ftp_trees.h"

namespace stp::ftp {

struct Watched : TransferObserver {
  void begin_job(std::size_t, std::uint64_t) override {}
  void begin_file(const std::string&, std::uint64_t, std::uint64_t at) override { resumed_at = at; }
  void advance(std::uint64_t bytes) override {
    moved += bytes;
    if (cancel != nullptr && moved >= cancel_at) *cancel = true;
  }
  void file_done(const std::string&, std::uint64_t, const Digest&) override { ++done; }
  void file_failed(const std::string& name, const Failure& why) override { failed.push_back(name + ": " + why.text); }
  void end_job() override {}

  std::uint64_t resumed_at = 0, moved = 0, cancel_at = 0;
  int done = 0;
  std::vector<std::string> failed;
  std::atomic<bool>* cancel = nullptr;
};

class FtpSessionTest : public testing::Test {
 protected:
  FtpSessionTest() {
    // A name of its own for each test process and test.
    static int number = 0;
    ::setenv("STP_STG", fmt::format("test-{}-{}", ::getpid(), ++number).c_str(), 1);
    ::setenv("STP_HOST", "beta", 1);
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    scratch_.make("root");
    scratch_.make("local");
  }
  ~FtpSessionTest() override {
    shim::corrupt_sent_byte(0);
    stop_server();
  }

  void start_server(ServerOptions options = {}) {
    options.quiet = true;
    auto listener = Listener::listen(kDefaultPort, 8, &stopping_);
    ASSERT_TRUE(listener) << listener.error().text;
    auto files = RootedFiles::open(scratch_.path("root"));
    server_ = std::thread([this, options, kept = std::move(*listener), rooted = std::move(*files)]() mutable {
      Server server(std::move(rooted), options);
      EXPECT_TRUE(server.serve(kept, stopping_));
    });
  }
  void stop_server() {
    stopping_ = true;
    if (server_.joinable()) server_.join();
    stopping_ = false;
  }
  Outcome<void> connect(Client& client) { return client.connect({"beta", kDefaultPort, std::chrono::milliseconds(0)}); }

  Outcome<void> put(const std::string& name, Watched& watched) {
    Client client(&cancelled_);
    if (auto done = connect(client); !done) return done;
    const std::vector<PutItem> items{{scratch_.path("local/" + name), name}};
    return client.put(items, watched);
  }
  Outcome<void> get(const std::string& name, Watched& watched) {
    Client client(&cancelled_);
    if (auto done = connect(client); !done) return done;
    const auto entry = client.stat(name);
    if (!entry) return std::unexpected(entry.error());
    std::vector<GetItem> items{*get_item(name, *entry, scratch_.path("local/" + name))};
    return client.get(items, watched);
  }
  void expect_nothing_partial(const std::string& directory) {
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path(directory)))
      EXPECT_EQ(entry.path().string().find(".part"), std::string::npos) << entry.path();
  }

  ScratchDir scratch_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> cancelled_ = false;
  std::thread server_;
};

}  // namespace stp::ftp
