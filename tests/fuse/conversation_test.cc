// Conversations through the files of /net: what they carry, and how they wait and end.
#include "tests/fuse/conversation_fixture.h"

#include <poll.h>

#include <mutex>
#include <thread>

#include "hostlib/stp.h"

namespace stp::view::test {
namespace {

using namespace std::chrono_literals;
using stp::test::pattern;
using stp::test::PeerProcess;
using stp::test::within;

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
