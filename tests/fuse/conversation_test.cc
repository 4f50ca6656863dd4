// Conversations as the files of /net are opened, read and written, over the real library and real agents.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

#include "fuse/net_nodes.h"
#include "hostlib/stp.h"
#include "tests/api/fixture.h"
#include "tests/api/peer_process.h"
#include "tests/fuse/asking.h"

namespace stp::view::test {
namespace {

using namespace std::chrono_literals;
using stp::test::pattern;
using stp::test::PeerProcess;
using stp::test::within;

std::shared_ptr<Asking> ask(uid_t user = 0) { return std::make_shared<Asking>(user); }
ConstBytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// An open file, closed when it goes.
class File {
 public:
  File() = default;
  explicit File(std::shared_ptr<OpenFile> file) : file_(std::move(file)) {}
  File(File&&) = default;
  File& operator=(File&& other) noexcept {
    close();
    file_ = std::move(other.file_);
    return *this;
  }
  ~File() { close(); }
  void close() {
    if (file_) file_->release();
    file_.reset();
  }
  explicit operator bool() const { return file_ != nullptr; }
  OpenFile* operator->() const { return file_.get(); }

  std::shared_ptr<Asking> begin_read(std::size_t size, int flags = 0) {
    auto request = ask();
    file_->read(request, size, flags);
    return request;
  }
  std::shared_ptr<Asking> begin_write(ConstBytes bytes, int flags = 0) {
    auto request = ask();
    const std::vector<std::byte> passing(bytes.begin(), bytes.end());  // gone after the call, as the kernel's are
    file_->write(request, passing, flags);
    return request;
  }
  std::string text(std::size_t size = 4096) {
    const auto request = begin_read(size);
    const int error = request->result();
    return error == 0 ? request->text() : "error " + std::to_string(error);
  }
  int say(std::string_view words) { return begin_write(bytes_of(words))->result(); }
  bool write_all(ConstBytes bytes) {
    while (!bytes.empty()) {
      const auto request = begin_write(bytes);
      if (request->result() != 0 || request->count() == 0) return false;
      bytes = bytes.subspan(request->count());
    }
    return true;
  }

 private:
  std::shared_ptr<OpenFile> file_;
};

class Conversations_ : public ::testing::Test {
 protected:
  Conversations_() : all(*Conversations::start()), net(make_net(all)) {}

  NodePtr find(std::string_view path) {
    NodePtr node = net;
    while (node != nullptr && !path.empty()) {
      const auto end = std::min(path.find('/'), path.size());
      const auto found = static_cast<Directory&>(*node).lookup(path.substr(0, end), Patience::kMayWait);
      node = found ? *found : nullptr;
      path.remove_prefix(std::min(end + 1, path.size()));
    }
    return node;
  }
  std::shared_ptr<Asking> begin_open(const std::string& path, int flags = O_RDWR, uid_t user = 0) {
    auto request = ask(user);
    const NodePtr node = find(path);
    if (node == nullptr)
      request->error(ENOENT);
    else
      static_cast<StreamNode&>(*node).open(request, flags);
    return request;
  }
  File open(const std::string& path, int flags = O_RDWR, uid_t user = 0) {
    const auto request = begin_open(path, flags, user);
    EXPECT_EQ(request->result(), 0) << path;
    return File(request->file());
  }
  std::string text(const std::string& path) {
    const NodePtr node = find(path);
    return node == nullptr ? "nothing there" : *static_cast<TextFile&>(*node).text(Patience::kMayWait);
  }
  // The ctl of a new one, and its number.
  std::pair<File, std::string> clone(uid_t user = 0) {
    File ctl = open("clone", O_RDWR, user);
    std::string number = ctl.text();
    EXPECT_TRUE(number.ends_with('\n'));
    number.pop_back();
    return {std::move(ctl), number};
  }
  std::uint16_t port_of(const std::string& number) {
    const std::string local = text(number + "/local");
    return static_cast<std::uint16_t>(std::stoi(local.substr(local.find('!') + 1)));
  }

  struct End {
    File ctl, data;
    std::string number;
  };
  // One that is announced, and both ends of a conversation of this host with itself.
  struct Ends {
    File listener;
    std::string listeners_number;
    End client, server;
  };
  Ends connected() {
    Ends ends;
    std::tie(ends.listener, ends.listeners_number) = clone();
    EXPECT_EQ(ends.listener.say("announce 0\n"), 0) << text(ends.listeners_number + "/err");
    std::tie(ends.client.ctl, ends.client.number) = clone();
    EXPECT_EQ(ends.client.ctl.say("connect alpha " + std::to_string(port_of(ends.listeners_number)) + "\n"), 0)
        << text(ends.client.number + "/err");
    ends.client.data = open(ends.client.number + "/data");
    ends.server.ctl = open(ends.listeners_number + "/listen");
    ends.server.number = ends.server.ctl.text();
    ends.server.number.pop_back();
    ends.server.data = open(ends.server.number + "/data");
    return ends;
  }
  // Connected to another host's program that sends back what it gets.
  End connected_to(std::uint16_t port) {
    End end;
    std::tie(end.ctl, end.number) = clone();
    EXPECT_EQ(end.ctl.say("connect beta!" + std::to_string(port)), 0) << text(end.number + "/err");
    end.data = open(end.number + "/data");
    return end;
  }

  std::shared_ptr<Conversations> all;
  NodePtr net;
};

// Writes `data` in pieces of any size; some blocking, some not.
void write_in_pieces(File& file, const std::vector<std::byte>& data, unsigned seed) {
  std::mt19937 random(seed);
  std::size_t done = 0;
  while (done < data.size()) {
    const std::size_t size = std::min<std::size_t>(data.size() - done, 1 + random() % (random() % 8 == 0 ? 1 << 20 : 5000));
    const auto request = file.begin_write(ConstBytes(data).subspan(done, size), random() % 4 == 0 ? O_NONBLOCK : 0);
    const int error = request->result();
    ASSERT_TRUE(error == 0 || error == EAGAIN) << error;
    if (error == 0) done += request->count();
  }
}

std::vector<std::byte> read_in_pieces(File& file, std::size_t whole, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out;
  while (out.size() < whole) {
    const auto request = file.begin_read(1 + random() % (random() % 8 == 0 ? 1 << 20 : 5000), random() % 4 == 0 ? O_NONBLOCK : 0);
    const int error = request->result();
    if (error == EAGAIN) continue;
    if (error != 0 || request->bytes().empty()) break;
    out.insert(out.end(), request->bytes().begin(), request->bytes().end());
  }
  return out;
}

TEST_F(Conversations_, ShowWhatTheyAre) {
  const Ends ends = connected();
  EXPECT_EQ(text(ends.listeners_number + "/status"), "announced waiting 0\n");
  EXPECT_EQ(text(ends.client.number + "/status"), "established read 0 written 0\n");
  EXPECT_EQ(text(ends.client.number + "/remote"), "alpha!" + std::to_string(port_of(ends.listeners_number)) + "\n");
  EXPECT_EQ(text(ends.client.number + "/local"), text(ends.server.number + "/remote"));
  EXPECT_EQ(text(ends.client.number + "/err"), "");
  EXPECT_EQ(static_cast<Directory&>(*net).list(Patience::kMayWait)->size(), 4u);
}

TEST_F(Conversations_, CarryRandomPiecesBothWays) {
  Ends ends = connected();
  const auto there = pattern(12 << 20, 1), back = pattern(9 << 20, 2);
  std::vector<std::byte> there_read, back_read;
  std::thread a([&] { write_in_pieces(ends.client.data, there, 3); });
  std::thread b([&] { write_in_pieces(ends.server.data, back, 4); });
  std::thread c([&] { there_read = read_in_pieces(ends.server.data, there.size(), 5); });
  back_read = read_in_pieces(ends.client.data, back.size(), 6);
  for (std::thread* each : {&a, &b, &c}) each->join();
  EXPECT_TRUE(there_read == there);
  EXPECT_TRUE(back_read == back);
}

TEST_F(Conversations_, CarryRandomPiecesToAnotherHostAndBack) {
  PeerProcess beta("beta", "echo");
  End end = connected_to(stp::test::announced_port(beta));
  const auto data = pattern(6 << 20, 7);
  std::thread writer([&] { write_in_pieces(end.data, data, 8); });
  const auto back = read_in_pieces(end.data, data.size(), 9);
  writer.join();
  EXPECT_TRUE(back == data);
  beta.tell("end");
}

TEST_F(Conversations_, ServeThoseWhoWaitInTheirOrder) {
  Ends ends = connected();
  std::vector<std::shared_ptr<Asking>> readers;
  for (int i = 0; i < 100; ++i) readers.push_back(ends.server.data.begin_read(1));
  std::string sent;
  for (int i = 0; i < 100; ++i) sent.push_back(static_cast<char>(i));
  EXPECT_TRUE(ends.client.data.write_all(bytes_of(sent)));
  std::string got;
  for (const auto& reader : readers) {
    EXPECT_EQ(reader->result(), 0);
    got += reader->text();
  }
  EXPECT_EQ(got, sent);

  const auto whole = pattern(30 << 20, 10);
  std::vector<std::shared_ptr<Asking>> writers;
  for (std::size_t at = 0; at < whole.size(); at += 1 << 20)
    writers.push_back(ends.client.data.begin_write(ConstBytes(whole).subspan(at, 1 << 20)));
  EXPECT_FALSE(writers.back()->answered());
  std::vector<std::byte> expected, read;
  std::thread reader([&] { read = read_in_pieces(ends.server.data, whole.size(), 11); });
  for (std::size_t i = 0; i < writers.size(); ++i) {
    EXPECT_EQ(writers[i]->result(), 0);
    // Those who came when much was kept already have written a part.
    EXPECT_GE(writers[i]->count(), i < 16 ? 1u << 20 : 64u << 10);
    const auto part = ConstBytes(whole).subspan(i << 20, writers[i]->count());
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_LT(writers.back()->count(), 1u << 20);
  ends.client = {};
  reader.join();
  EXPECT_TRUE(read == expected);
}

TEST_F(Conversations_, ASignalEndsOneOfThoseWhoWait) {
  Ends ends = connected();
  const auto first = ends.server.data.begin_read(10), second = ends.server.data.begin_read(10);
  first->interrupt();
  EXPECT_EQ(first->result(), EINTR);
  EXPECT_FALSE(second->answered());
  EXPECT_TRUE(ends.client.data.write_all(bytes_of("hello")));
  EXPECT_EQ(second->result(), 0);
  EXPECT_EQ(second->text(), "hello");

  const auto before = ask();
  before->interrupt();
  ends.server.data->read(before, 10, 0);
  EXPECT_EQ(before->result(), EINTR);
}

TEST_F(Conversations_, AnInterruptedWriteTellsHowMuchWent) {
  Ends ends = connected();
  const auto data = pattern(40 << 20, 12);
  const auto writer = ends.client.data.begin_write(data), behind = ends.client.data.begin_write(bytes_of("more"));
  writer->interrupt();
  EXPECT_EQ(writer->result(), 0);
  EXPECT_GT(writer->count(), 0u);
  EXPECT_LT(writer->count(), data.size());
  behind->interrupt();
  EXPECT_EQ(behind->result(), EINTR);
  ends.client.data.close();
  const auto got = read_in_pieces(ends.server.data, data.size(), 13);
  ASSERT_EQ(got.size(), writer->count());
  EXPECT_TRUE(std::equal(got.begin(), got.end(), data.begin()));
}

TEST_F(Conversations_, TheLastWriterEndsItsDirection) {
  Ends ends = connected();
  File second = open(ends.client.number + "/data", O_WRONLY);
  const File reader = open(ends.client.number + "/data", O_RDONLY);
  EXPECT_EQ(second.say("one "), 0);
  second.close();
  EXPECT_EQ(ends.client.data.say("two"), 0);
  const auto flushed = ask();
  ends.client.data->flush(flushed);
  EXPECT_EQ(flushed->result(), 0);
  ends.client.data.close();
  std::string got;
  for (std::string part; !(part = ends.server.data.text()).empty() && !part.starts_with("error");) got += part;
  EXPECT_EQ(got, "one two");
  EXPECT_EQ(text(ends.server.number + "/status"), "ended-by-peer read 7 written 0\n");
  EXPECT_EQ(ends.server.data.say("answer"), 0);
  ends.server.data.close();
  File again = open(ends.client.number + "/data", O_RDWR);
  EXPECT_EQ(again.text(), "answer");
  EXPECT_EQ(again.text(), "");
  EXPECT_EQ(again.say("more"), EPIPE);
}

TEST_F(Conversations_, ShutdownEndsSendingWhileTheFileIsOpen) {
  Ends ends = connected();
  const auto data = pattern(20 << 20, 14);
  const auto writer = ends.client.data.begin_write(data);  // waits
  EXPECT_EQ(ends.client.ctl.say("shutdown\n"), 0);
  EXPECT_TRUE(read_in_pieces(ends.server.data, data.size(), 15) == data);
  EXPECT_EQ(writer->result(), 0);
  EXPECT_EQ(ends.server.data.text(), "");
  EXPECT_EQ(ends.client.data.say("x"), EPIPE);
  EXPECT_NE(text(ends.client.number + "/err").find("the end of what is sent"), std::string::npos) << text(ends.client.number + "/err");
}

TEST_F(Conversations_, NonBlockingFilesDoNotWait) {
  Ends ends = connected();
  EXPECT_EQ(ends.server.data.begin_read(10, O_NONBLOCK)->result(), EAGAIN);
  const auto data = pattern(40 << 20, 16);
  const auto some = ends.client.data.begin_write(data, O_NONBLOCK);
  EXPECT_EQ(some->result(), 0);
  EXPECT_GT(some->count(), 0u);
  EXPECT_LT(some->count(), data.size());
  EXPECT_EQ(ends.client.data.begin_write(data, O_NONBLOCK)->result(), EAGAIN);
  EXPECT_EQ(begin_open(ends.listeners_number + "/listen", O_RDWR | O_NONBLOCK)->result(), EAGAIN);
}

// Polls as the kernel does: again whenever it is woken, which may be for nothing. How often; -1 when nothing came.
int polls_until(File& file, std::uint32_t wanted) {
  for (int polls = 1;; ++polls) {
    const auto waking = std::make_shared<Waking>();
    if ((file->poll(waking) & wanted) != 0) return polls;
    if (!waking->woken_within(20s)) return -1;
  }
}

TEST_F(Conversations_, PollersAreWoken) {
  Ends ends = connected();
  EXPECT_EQ(ends.server.data->poll(nullptr) & (POLLIN | POLLOUT | POLLHUP | POLLERR), static_cast<unsigned>(POLLOUT));
  std::thread later([&] {
    std::this_thread::sleep_for(30ms);
    EXPECT_EQ(ends.client.data.say("x"), 0);
  });
  EXPECT_LT(static_cast<unsigned>(polls_until(ends.server.data, POLLIN)), 6u);
  later.join();
  EXPECT_EQ(ends.server.data.text(), "x");

  const auto data = pattern(40 << 20, 17);
  (void)ends.client.data.begin_write(data, O_NONBLOCK)->result();
  EXPECT_EQ(ends.client.data->poll(nullptr) & POLLOUT, 0u);
  later = std::thread([&] {
    std::this_thread::sleep_for(30ms);
    while (ends.server.data.begin_read(1 << 20, O_NONBLOCK)->result() == 0) {
    }
  });
  EXPECT_LT(static_cast<unsigned>(polls_until(ends.client.data, POLLOUT)), 6u);
  later.join();

  later = std::thread([&] {
    std::this_thread::sleep_for(30ms);
    ends.client = {};
  });
  EXPECT_LT(static_cast<unsigned>(polls_until(ends.server.data, POLLIN)), 6u);
  later.join();
  EXPECT_EQ(ends.server.data.text(), "");
}

TEST_F(Conversations_, TimeoutsEndWhatWaits) {
  Ends ends = connected();
  EXPECT_EQ(ends.server.ctl.say("timeout 0.05"), 0);
  EXPECT_EQ(ends.server.data.begin_read(1)->result(), ETIMEDOUT);
  EXPECT_NE(text(ends.server.number + "/err"), "");
  const auto data = pattern(40 << 20, 18);
  const auto writer = ends.server.data.begin_write(data);
  EXPECT_EQ(writer->result(), 0);
  EXPECT_LT(writer->count(), data.size());
  EXPECT_EQ(ends.server.data.begin_write(data)->result(), ETIMEDOUT);
  EXPECT_EQ(ends.listener.say("timeout 0.05"), 0);
  EXPECT_EQ(begin_open(ends.listeners_number + "/listen")->result(), ETIMEDOUT);
  EXPECT_NE(text(ends.listeners_number + "/err").find("nobody came"), std::string::npos) << text(ends.listeners_number + "/err");
  EXPECT_EQ(ends.listener.say("timeout 0"), 0);
  const auto listening = begin_open(ends.listeners_number + "/listen");
  std::this_thread::sleep_for(60ms);
  EXPECT_FALSE(listening->answered());
  listening->interrupt();
  EXPECT_EQ(listening->result(), EINTR);
}

TEST_F(Conversations_, SayWhyTheyFail) {
  auto [ctl, number] = clone();
  EXPECT_EQ(begin_open(number + "/data")->result(), ENOTCONN);
  EXPECT_EQ(text(number + "/err"), "data: the conversation is not connected\n");
  EXPECT_EQ(begin_open(number + "/listen")->result(), EINVAL);
  EXPECT_EQ(text(number + "/err"), "listen: announce a port first\n");
  EXPECT_EQ(ctl.say("shutdown"), ENOTCONN);
  EXPECT_EQ(text(number + "/err"), "shutdown: the conversation is not connected\n");
  EXPECT_EQ(ctl.say("connect alpha 9"), ECONNREFUSED);
  EXPECT_NE(text(number + "/err").find("nobody listens"), std::string::npos) << text(number + "/err");
  EXPECT_EQ(ctl.say("dance"), EINVAL);
  EXPECT_NE(text(number + "/err").find("connect, announce"), std::string::npos);
  auto [other, others_number] = clone();
  EXPECT_EQ(other.say("announce 4711"), 0);
  EXPECT_EQ(ctl.say("announce 4711"), EADDRINUSE);
  EXPECT_EQ(other.say("connect alpha 4711"), EINVAL);
  EXPECT_EQ(ctl.say("connect alpha 4711"), 0);  // after all that
  EXPECT_EQ(ctl.say("connect alpha 4711"), EISCONN);

  auto [users, users_number] = clone(1000);
  EXPECT_EQ(users.say("announce 80"), EACCES);
  EXPECT_NE(text(users_number + "/err").find("root"), std::string::npos);
  EXPECT_EQ(static_cast<StreamNode&>(*find(users_number + "/data")).attributes().uid, 1000u);
  EXPECT_EQ(static_cast<StreamNode&>(*find(users_number + "/ctl")).attributes().mode, 0600u);
}

TEST_F(Conversations_, HangingUpEndsWhatWaits) {
  Ends ends = connected();
  const auto reader = ends.client.data.begin_read(1);
  EXPECT_EQ(ends.client.data.say("last words"), 0);
  EXPECT_EQ(ends.client.ctl.say("hangup"), 0);
  EXPECT_EQ(reader->result(), ECONNABORTED);
  EXPECT_EQ(ends.client.data.begin_read(1)->result(), ECONNABORTED);
  EXPECT_EQ(ends.client.data.say("x"), ECONNABORTED);
  EXPECT_EQ(text(ends.client.number + "/err"), "the conversation was hung up\n");
  EXPECT_EQ(ends.server.data.text(), "last words");
  EXPECT_EQ(text(ends.client.number + "/status"), "hung-up\n");
  const auto listening = begin_open(ends.listeners_number + "/listen");
  EXPECT_EQ(ends.listener.say("hangup"), 0);
  EXPECT_EQ(listening->result(), ECONNABORTED);
}

TEST_F(Conversations_, LiveWhileAFileIsOpen) {
  std::string number;
  File data;
  {
    Ends ends = connected();
    number = ends.client.number;
    data = std::move(ends.client.data);
  }
  EXPECT_NE(text(number + "/status"), "nothing there");
  data.close();
  EXPECT_EQ(find(number), nullptr);

  auto [ctl, listener] = clone();
  EXPECT_EQ(ctl.say("announce 0"), 0);
  const auto listening = begin_open(listener + "/listen");
  ctl.close();
  EXPECT_NE(find(listener), nullptr) << "somebody waits there";
  listening->interrupt();
  EXPECT_EQ(listening->result(), EINTR);
  EXPECT_TRUE(within(20s, [&] { return find(listener) == nullptr; }));
  EXPECT_EQ(static_cast<Directory&>(*net).list(Patience::kMayWait)->size(), 1u);
}

TEST_F(Conversations_, OneUserCanNotHaveThemAll) {
  std::vector<File> files;
  while (files.size() < Conversations::kMostOfAUser) files.push_back(open("clone", O_RDWR, 1000));
  EXPECT_EQ(begin_open("clone", O_RDWR, 1000)->result(), ENFILE);
  const File others = open("clone", O_RDWR, 1001);
  files.pop_back();
  files.push_back(open("clone", O_RDWR, 1000));
}

TEST_F(Conversations_, AShortWayInAndOut) {
  auto [ctl, number] = clone();
  EXPECT_EQ(ctl.say("announce 0"), 0);
  const auto server = begin_open(number + "/data", O_RDONLY);
  const NodePtr port = make_port_data(all, "alpha", port_of(number));
  const auto client = ask(1000);
  static_cast<StreamNode&>(*port).open(client, O_WRONLY);
  ASSERT_EQ(client->result(), 0);
  ASSERT_EQ(server->result(), 0);
  File from(server->file()), to(client->file());
  const auto data = pattern(5 << 20, 19);
  std::thread writer([&] {
    EXPECT_TRUE(to.write_all(data));
    to.close();
  });
  EXPECT_TRUE(read_in_pieces(from, data.size() + 1, 20) == data);
  writer.join();
  const auto refused = ask();
  static_cast<StreamNode&>(*make_port_data(all, "alpha", 9)).open(refused, O_WRONLY);
  EXPECT_EQ(refused->result(), ECONNREFUSED);
  EXPECT_TRUE(within(20s, [&] { return all->list().size() == 2; })) << all->list().size();
}

TEST_F(Conversations_, ADeadPeerIsAnError) {
  auto beta = std::make_unique<PeerProcess>("beta", "echo");
  End end = connected_to(stp::test::announced_port(*beta));
  const auto data = pattern(100'000, 21);
  EXPECT_TRUE(end.data.write_all(data));
  EXPECT_TRUE(read_in_pieces(end.data, data.size(), 22) == data);
  const auto reader = end.data.begin_read(1);
  EXPECT_FALSE(reader->answered());
  beta->kill();
  EXPECT_EQ(reader->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err"), "");
  const auto late = end.data.begin_write(data);
  EXPECT_TRUE(late->result() == EPIPE || late->result() == ECONNRESET) << late->result();
}

TEST_F(Conversations_, WhatBrokeAConversationStays) {
  auto beta = std::make_unique<PeerProcess>("beta", "echo");
  End end = connected_to(stp::test::announced_port(*beta));
  beta->kill();
  EXPECT_TRUE(within(20s, [&] { return text(end.number + "/err") != ""; })) << "words before anybody reads";
  EXPECT_NE(text(end.number + "/err").find("beta"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(text(end.number + "/status"), "broken read 0 written 0\n");
  EXPECT_EQ(end.ctl.say("dance"), EINVAL);  // other words meanwhile
  EXPECT_EQ(end.data.begin_read(1)->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err").find("beta"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(text(end.number + "/status"), "broken read 0 written 0\n") << "after somebody was told";
  EXPECT_NE(end.data->poll(nullptr) & POLLERR, 0u);
  EXPECT_EQ(end.data.say("x"), ECONNRESET);
}

TEST_F(Conversations_, EachCloseTellsOfWhatDidNotArrive) {
  PeerProcess beta("beta", "echo");
  End end = connected_to(stp::test::announced_port(beta));
  ASSERT_EQ(::kill(stp::test::agent_pid("beta"), SIGSTOP), 0);
  EXPECT_TRUE(end.data.write_all(pattern(200'000, 23)));
  const auto flush = [&] {
    const auto request = ask();
    end.data->flush(request);
    return request;
  };
  const auto childs = flush();  // which has the descriptor too
  childs->interrupt();
  EXPECT_EQ(childs->result(), EINTR);
  const auto last = flush();
  EXPECT_FALSE(last->answered());
  stp::test::kill_agent("beta");
  EXPECT_EQ(last->result(), ECONNRESET);
  EXPECT_NE(text(end.number + "/err").find("not everything"), std::string::npos) << text(end.number + "/err");
  EXPECT_EQ(flush()->result(), ECONNRESET);
}

// An agent that stands still keeps whoever asks it waiting: not those who set a timeout, or are hit by a signal.
TEST_F(Conversations_, AnAgentThatStandsStillHoldsUpNoTimeoutAndNoSignal) {
  Ends ends = connected();
  const std::string port = std::to_string(port_of(ends.listeners_number));
  const auto reader = ends.server.data.begin_read(1), timed = ends.client.data.begin_read(1);
  const auto listening = begin_open(ends.listeners_number + "/listen");
  auto [first, firsts_number] = clone();
  auto [second, seconds_number] = clone();
  EXPECT_EQ(first.say("timeout 0.2"), 0);
  EXPECT_EQ(second.say("timeout 0.1"), 0);
  const pid_t agent = stp::test::agent_pid("alpha");
  ASSERT_EQ(::kill(agent, SIGSTOP), 0);
  const auto begin = std::chrono::steady_clock::now();
  const auto waits_for_agent = first.begin_write(bytes_of("connect alpha " + port));
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(second.say("connect alpha " + port), ETIMEDOUT);
  EXPECT_EQ(waits_for_agent->result(), ETIMEDOUT);
  EXPECT_NE(text(firsts_number + "/err").find("timeout"), std::string::npos) << text(firsts_number + "/err");
  reader->interrupt();
  EXPECT_EQ(reader->result(), EINTR);
  timed->interrupt();
  EXPECT_EQ(timed->result(), EINTR);
  listening->interrupt();
  EXPECT_EQ(listening->result(), EINTR);
  EXPECT_EQ(second.say("hangup"), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 4s);
  ASSERT_EQ(::kill(agent, SIGCONT), 0);
  EXPECT_EQ(first.say("timeout 20"), 0);
  EXPECT_EQ(first.say("connect alpha " + port), 0) << text(firsts_number + "/err");  // as if nothing had been
}

TEST_F(Conversations_, AConnectionIsNotLostOnWhoGaveUpWaiting) {
  auto [listener, number] = clone();
  EXPECT_EQ(listener.say("announce 0"), 0);
  const std::string port = std::to_string(port_of(number));
  for (int i = 0; i < 200; ++i) {
    const auto gives_up = begin_open(number + "/listen");
    auto [ctl, clients_number] = clone();
    const auto connecting = ctl.begin_write(bytes_of("connect alpha " + port));
    if (i % 4 == 0) {
      EXPECT_EQ(connecting->result(), 0);
    }
    gives_up->interrupt();
    EXPECT_EQ(connecting->result(), 0);
    if (gives_up->result() == 0) {
      const File taken(gives_up->file());
      continue;
    }
    EXPECT_EQ(gives_up->result(), EINTR);
    const auto next = begin_open(number + "/listen");
    ASSERT_EQ(next->result(), 0) << i;
    const File taken(next->file());
  }
}

// So that the kernel can be told.
TEST_F(Conversations_, OnesThatHaveGoneAreTold) {
  std::mutex mutex;
  std::vector<std::string> gone;
  static_cast<Directory&>(*net).tell_gone([&](std::string name) {
    std::lock_guard lock(mutex);
    gone.push_back(std::move(name));
  });
  auto [ctl, number] = clone();
  auto [kept, kept_number] = clone();
  ctl.close();
  EXPECT_TRUE(within(20s, [&] {
    std::lock_guard lock(mutex);
    return !gone.empty();
  }));
  static_cast<Directory&>(*net).tell_gone(nullptr);
  std::lock_guard lock(mutex);
  EXPECT_EQ(gone, std::vector<std::string>{number});
}

TEST_F(Conversations_, ADeadAgentEndsThemAndTheNextCarriesNewOnes) {
  Ends ends = connected();
  PeerProcess beta("beta", "echo");
  End far = connected_to(stp::test::announced_port(beta));
  const auto near_reader = ends.client.data.begin_read(1), far_reader = far.data.begin_read(1);
  const auto waking = std::make_shared<Waking>();
  (void)far.data->poll(waking);
  const auto listening = begin_open(ends.listeners_number + "/listen");
  stp::test::kill_agent("alpha");
  EXPECT_EQ(near_reader->result(), ECONNRESET);
  EXPECT_EQ(far_reader->result(), ECONNRESET);
  EXPECT_TRUE(waking->woken_within(20s));
  EXPECT_NE(text(far.number + "/err").find("agent"), std::string::npos) << text(far.number + "/err");
  auto [without, withouts_number] = clone();
  EXPECT_EQ(without.say("announce 0"), ENOTCONN);
  EXPECT_EQ(without.say("connect beta 9"), ENOTCONN);
  EXPECT_NE(text(withouts_number + "/err").find("agent"), std::string::npos) << text(withouts_number + "/err");
  (void)stp::test::agent_of("alpha");
  // The listener is registered again by the library, and who waits there still does.
  const std::string port = std::to_string(port_of(ends.listeners_number));
  auto [ctl, number] = clone();
  EXPECT_TRUE(within(20s, [&] { return ctl.say("connect alpha " + port) == 0; })) << text(number + "/err");
  EXPECT_EQ(listening->result(), 0);
  const File accepted(listening->file());
}

// Everything at once: many conversations, readers and writers, signals and hang-ups.
TEST_F(Conversations_, ManyAtOnce) {
  constexpr int kThreads = 12;
  auto [listener, number] = clone();
  EXPECT_EQ(listener.say("announce 0"), 0);
  const std::uint16_t port = port_of(number);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      std::mt19937 random(static_cast<unsigned>(i));
      for (int round = 0; round < 6; ++round) {
        const auto client = ask();
        static_cast<StreamNode&>(*make_port_data(all, "alpha", port)).open(client, O_RDWR);
        File to;
        if (client->result() == 0) to = File(client->file());
        ASSERT_TRUE(to);
        const auto server = begin_open(number + "/data");
        ASSERT_EQ(server->result(), 0);  // of whichever client
        File from(server->file());
        (void)from.begin_write(pattern(random() % 300'000 + 1))->result();
        const auto some = to.begin_read(1 << 20);
        if (random() % 3 == 0) some->interrupt();
        EXPECT_NE(some->result(), Asking::kNoAnswer);
        if (random() % 2 == 0) from.close();
        const auto rest = to.begin_read(1 << 20);
        rest->interrupt();
        EXPECT_NE(rest->result(), Asking::kNoAnswer);
      }
    });
  for (std::thread& each : threads) each.join();
  EXPECT_TRUE(within(20s, [&] { return all->list().size() == 1; }));
}

}  // namespace
}  // namespace stp::view::test
