// stp-ftp with a server that says what the input says, whatever it was asked.
#include <atomic>
#include <fstream>

#include "tests/fuzz/ftp_sandbox.h"
#include "tests/fuzz/memory_peer.h"
#include "tools/ftp_client.h"
#include "tools/ftp_trees.h"

namespace stp::fuzz {
namespace {

using namespace stp::ftp;

constexpr std::int64_t kTime = 1'700'000'000'000'000'000;

struct Nobody final : TransferObserver {
  void begin_job(std::size_t, std::uint64_t) override {}
  void begin_file(const std::string&, std::uint64_t, std::uint64_t) override {}
  void advance(std::uint64_t) override {}
  void file_done(const std::string&, std::uint64_t, const Digest&) override {}
  void file_failed(const std::string&, const Failure&) override {}
  void end_job() override {}
};

void list(Input& input, FtpScript& script) {
  std::vector<FileEntry> entries;
  for (std::uint64_t n = input.below(5); n > 0; --n)
    entries.push_back({.name = some_path(input), .kind = static_cast<FileKind>(input.near(1 + input.below(4))), .mode = input.u16() | 0600u, .size = input.near(3),
                       .mtime_ns = kTime, .through_link = input.flag()});
  for (const Payload& part : encode_listing(entries)) script.frame(FrameType::kEntries, part);
}

void send_file(Input& input, FtpScript& script) {
  const ConstBytes first = input.take(input.u8()), second = input.take(input.u8());
  const Start start{.offset = input.u8() < 200 ? 0 : input.near(3), .source = {input.near(first.size() + second.size()), kTime}, .mode = input.u32() | 0600, .prefix = {}};
  script.frame(FrameType::kStart, encode(start));
  script.begin_file(start.source.size);
  script.data(first);
  if (input.flag()) script.data(second);
  if (const std::uint8_t end = input.u8(); end < 230) script.end(end < 190);
}

void say(Input& input, FtpScript& script) {
  switch (input.below(14)) {
    case 0:
    case 1:
    case 2: return list(input, script);
    case 3:
    case 4:
    case 5: return send_file(input, script);
    case 6:
    case 7: return script.frame(FrameType::kOk, {});
    case 8: return script.frame(FrameType::kError, encode(Failure{static_cast<FailureCode>(input.u8() % 18), std::string(input.text(input.u8()))}));
    case 9: return script.data(input.take(input.u8()));
    case 10: return script.end(input.flag());
    case 11: {
      const auto type = static_cast<FrameType>(input.u8() % 32);
      return script.odd_frame(type, input.take(input.u8()));
    }
    case 12: return script.frame(FrameType::kWelcome, encode(Welcome{}));  // where it connects again
    default: return script.raw(input.take(input.u8()));
  }
}

template <class T>
void expect_words(const Outcome<T>& done) {
  require(done || !done.error().text.empty(), "what fails says why");
}

void get_tree(Client& client, const FtpSandbox& sandbox, bool update) {
  auto items = expand_get_tree(client, "dir", sandbox.inside("dir/tree"), update, [](const std::string&) {});
  expect_words(items);
  if (!items) return;
  Nobody nobody;
  expect_words(client.get(*items, nobody));
}

void get_one(Client& client, const FtpSandbox& sandbox) {
  const auto entry = client.stat("a");
  expect_words(entry);
  if (!entry) return;
  auto item = get_item("a", *entry, sandbox.inside("came"));
  if (!item) return expect_words(item);
  const std::vector<GetItem> items{std::move(*item)};
  Nobody nobody;
  expect_words(client.get(items, nobody));
}

void put_some(Client& client, const FtpSandbox& sandbox) {
  constexpr std::size_t kLarge = (1 << 20) + 1;  // asked about before it is sent
  const std::string large = sandbox.inside("large.part");
  std::ofstream(large, std::ios::binary) << std::string(kLarge, 'x');
  const std::vector<PutItem> items{{sandbox.inside("a"), "a"}, {large, "large"}, {sandbox.inside("dir/f"), "f"}};
  Nobody nobody;
  expect_words(client.put(items, nobody));
}

void ask(Client& client, const FtpSandbox& sandbox, std::uint8_t what) {
  switch (what % 8) {
    case 0: return expect_words(client.list("dir"));
    case 1: return get_one(client, sandbox);
    case 2: return put_some(client, sandbox);
    case 3: return expect_words(client.make_directory("dir", 0755, true));
    case 4: return expect_words(client.rename("a", "b"));
    case 5: return expect_words(expand_remote(client, "dir/*"));
    default: return get_tree(client, sandbox, what >= 128);
  }
}

}  // namespace

void run(ConstBytes bytes) {
  static FtpSandbox sandbox;
  Input input(bytes);
  sandbox.reset();
  const std::uint8_t how = input.u8(), first = input.u8(), second = input.u8();
  FtpScript script;
  if ((how & 3) != 3) script.frame(FrameType::kWelcome, encode(Welcome{}));
  while (!input.empty()) say(input, script);
  set_next_peer(script.bytes(), (how & 4) != 0 ? 1 + how : 65536);
  {
    const std::atomic<bool> cancelled = false;
    Client client(&cancelled);
    expect_words(client.connect({"beta", kDefaultPort, std::chrono::milliseconds(0)}));
    ask(client, sandbox, first);
    ask(client, sandbox, second);
  }
  (void)take_sent();
  sandbox.check(script.vague() ? nullptr : &script.whole());
}

}  // namespace stp::fuzz
