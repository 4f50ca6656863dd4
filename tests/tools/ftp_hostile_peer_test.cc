// Clients and servers that do not keep to the protocol, or vanish: nothing outside the root, nothing under a wrong name.

#include "tests/tools/ftp_session.h"
#include "tools/ftp_channel.h"

namespace stp::ftp {

namespace {
constexpr std::size_t kMiB = std::size_t{1} << 20;
}  // namespace

// A peer that says what it likes.
class RawPeerTest : public FtpSessionTest {
 protected:
  Channel raw_client() {
    auto stream = connect_stream("beta", kDefaultPort, std::chrono::milliseconds(0), nullptr);
    Channel channel(std::move(*stream));
    EXPECT_TRUE(channel.send(FrameType::kHello, encode(Hello{})));
    EXPECT_EQ(channel.receive_frame()->type, FrameType::kWelcome);
    return channel;
  }
  static FailureCode error_of(Channel& channel) {
    const auto frame = channel.receive_frame();
    if (!frame) return frame.error().code;
    EXPECT_EQ(frame->type, FrameType::kError);
    return decode_error(frame->payload).code;
  }
};

TEST_F(RawPeerTest, TheServerRefusesPathsOutOfItsRootAndGoesOn) {
  start_server();
  scratch_.write("secret", "x");
  Channel client = raw_client();
  for (const char* path : {"../secret", "..", "/etc/passwd"}) {
    ASSERT_TRUE(client.send(FrameType::kStat, encode(PathRequest{path})));
    EXPECT_EQ(error_of(client), FailureCode::kRefused) << path;
    ASSERT_TRUE(client.send(FrameType::kGet, encode(Get{0, {}, {}, path})));
    EXPECT_EQ(error_of(client), FailureCode::kRefused) << path;
    ASSERT_TRUE(client.send(FrameType::kPut, encode(Put{{1, 1}, 0644, true, path})));
    ASSERT_TRUE(client.send(FrameType::kData, std::vector<std::byte>(1)));
    ASSERT_TRUE(client.send(FrameType::kEnd, encode(End{})));
    EXPECT_EQ(error_of(client), FailureCode::kRefused) << path;
  }
  ASSERT_TRUE(client.send(FrameType::kList, encode(PathRequest{""})));
  EXPECT_EQ(client.receive_frame()->type, FrameType::kEntries);
  EXPECT_EQ(scratch_.read("secret"), "x");
}

TEST_F(RawPeerTest, GarbageEndsTheSessionAndNotTheServer) {
  start_server();
  for (unsigned seed = 0; seed < 40; ++seed) {
    auto stream = connect_stream("beta", kDefaultPort, std::chrono::milliseconds(0), nullptr);
    ASSERT_TRUE(stream);
    const std::string garbage = some_bytes(300, seed);
    (void)stream->send_all(std::as_bytes(std::span(garbage)));
    (void)stream->finish_sending();
    std::vector<std::byte> sink(4096);
    while (true) {
      const auto n = stream->receive_some(sink);
      if (!n || *n == 0) break;
    }
  }
  Client client(&cancelled_);
  EXPECT_TRUE(connect(client));
}

TEST_F(RawPeerTest, AClientThatVanishesLeavesAtMostAPart) {
  start_server();
  {
    Channel client = raw_client();
    ASSERT_TRUE(client.send(FrameType::kPut, encode(Put{{10 * kMiB, 1}, 0644, true, "f"})));
    ASSERT_TRUE(client.send(FrameType::kData, std::vector<std::byte>(1000)));
    ASSERT_TRUE(client.flush());
    struct stat status {};
    while (::stat(scratch_.path("root/f.part").c_str(), &status) != 0 || status.st_size < 1000) std::this_thread::yield();
  }
  stop_server();
  EXPECT_FALSE(scratch_.has("root/f"));
  EXPECT_TRUE(scratch_.has("root/f.part"));
  EXPECT_EQ(scratch_.read("root/f.part").size(), 1000u);
}

TEST_F(RawPeerTest, MoreOrFewerBytesThanAnnouncedNeverGetTheName) {
  start_server();
  for (const std::size_t sent : {std::size_t{5}, std::size_t{11}}) {
    Channel client = raw_client();
    ASSERT_TRUE(client.send(FrameType::kPut, encode(Put{{10, 1}, 0644, true, "f"})));
    ASSERT_TRUE(client.send(FrameType::kData, std::vector<std::byte>(sent)));
    ASSERT_TRUE(client.send(FrameType::kEnd, encode(End{})));
    EXPECT_EQ(error_of(client), FailureCode::kProtocol);
    EXPECT_FALSE(scratch_.has("root/f"));
  }
}

// Serves one client with prepared answers: a hostile server.
class HostileServer {
 public:
  enum Then { kWait, kLeave };
  explicit HostileServer(std::vector<std::pair<FrameType, Payload>> answers, Then then = kWait) : answers_(std::move(answers)), then_(then) {
    auto listener = Listener::listen(kDefaultPort, 1, nullptr);
    thread_ = std::thread([this, kept = std::move(*listener)]() mutable {
      Channel channel(std::move(*kept.accept()));
      (void)channel.receive_frame();
      (void)channel.send(FrameType::kWelcome, encode(Welcome{}));
      for (const auto& [type, payload] : answers_) {
        if (!channel.receive_frame()) return;
        (void)channel.send(type, payload);
        (void)channel.flush();
      }
      if (then_ == kWait) (void)channel.receive_frame();
    });
  }
  ~HostileServer() { thread_.join(); }

 private:
  std::vector<std::pair<FrameType, Payload>> answers_;
  const Then then_;
  std::thread thread_;
};

TEST_F(RawPeerTest, NamesOfAServerNeverLeaveTheLocalDirectory) {
  for (const char* name : {"../evil", "..", "/tmp/evil", "a/b"}) {
    const HostileServer server({{FrameType::kEntries, encode_listing({{"good", FileKind::kFile, 0644, 1, 1, false}, {name, FileKind::kFile, 0644, 1, 1, false}}).front()}});
    Client client(&cancelled_);
    ASSERT_TRUE(connect(client));
    const auto items = expand_get_tree(client, "", scratch_.path("local/tree"), false, [](const std::string&) {});
    ASSERT_FALSE(items) << name;
    EXPECT_EQ(items.error().code, FailureCode::kProtocol);
  }
  EXPECT_FALSE(scratch_.has("local/evil"));
}

TEST_F(RawPeerTest, ALocalLinkPlacedInATreeIsNotWrittenThrough) {
  scratch_.make("local/tree");
  scratch_.make("outside");
  ASSERT_EQ(::symlink("../../outside", scratch_.path("local/tree/sub").c_str()), 0);
  start_server();
  scratch_.make("root/sub");
  scratch_.write("root/sub/f", "x");
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  EXPECT_FALSE(expand_get_tree(client, "", scratch_.path("local/tree"), false, [](const std::string&) {}));
  EXPECT_TRUE(std::filesystem::is_empty(scratch_.path("outside")));
}

TEST_F(RawPeerTest, AServerThatDiesInTheMiddleIsPeerGone) {
  auto server = std::make_unique<HostileServer>(std::vector<std::pair<FrameType, Payload>>{
      {FrameType::kStart, encode(Start{0, {5 * kMiB, 1}, 0644, {}})}}, HostileServer::kLeave);
  Client client(&cancelled_);
  ASSERT_TRUE(connect(client));
  std::vector<GetItem> items{*get_item("f", {"f", FileKind::kFile, 0644, 5 * kMiB, 1, false}, scratch_.path("local/f"))};
  Watched watched;
  const auto done = client.get(items, watched);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, FailureCode::kPeerGone) << done.error().text;
  EXPECT_FALSE(scratch_.has("local/f"));
  EXPECT_TRUE(scratch_.has("local/f.part"));
}

}  // namespace stp::ftp
