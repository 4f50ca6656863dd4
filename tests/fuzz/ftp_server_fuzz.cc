// One session of stp-ftpd with a client that says what the input says: frames in any order with any content, or bytes that are none.
#include <atomic>

#include "tests/fuzz/ftp_sandbox.h"
#include "tests/fuzz/memory_peer.h"
#include "tools/ftp_server.h"

namespace stp::fuzz {
namespace {

using namespace stp::ftp;

SourceIdentity some_source(Input& input, std::uint64_t size) { return {input.near(size), static_cast<std::int64_t>(input.near(1'700'000'000'000'000'000))}; }

// A file that comes: mostly as long as it says, with the right digest.
void put(Input& input, FtpScript& script) {
  const ConstBytes first = input.take(input.u8()), second = input.take(input.u8());
  Put request{.source = some_source(input, first.size() + second.size()), .mode = input.u32() | 0600, .whole = input.u8() < 160, .path = some_path(input)};
  script.frame(FrameType::kPut, encode(request));
  script.begin_file(request.source.size);
  if (!request.whole && input.u8() < 200) script.frame(FrameType::kBegin, encode(Begin{input.u8() < 160 ? 0 : input.near(first.size())}));
  script.data(first);
  if (input.flag()) script.data(second);
  const std::uint8_t end = input.u8();
  if (end < 200)
    script.end(end < 160);
  else if (end < 230)
    script.frame(FrameType::kAbort, {});
}

void say(Input& input, FtpScript& script) {
  switch (input.below(16)) {
    case 0: return script.frame(FrameType::kList, encode(PathRequest{some_path(input)}));
    case 1: return script.frame(FrameType::kStat, encode(PathRequest{some_path(input)}));
    case 2: return script.frame(FrameType::kMkdir, encode(Mkdir{input.u32() | 0700, input.flag(), some_path(input)}));
    case 3: return script.frame(FrameType::kRmdir, encode(PathRequest{some_path(input)}));
    case 4: return script.frame(FrameType::kRemove, encode(PathRequest{some_path(input)}));
    case 5: {
      Rename request{some_path(input), some_path(input)};
      // What an unfinished file is called is its client's affair then.
      if (request.from.contains(".part")) return script.odd_frame(FrameType::kRename, encode(request));
      return script.frame(FrameType::kRename, encode(request));
    }
    case 6:
    case 7: {
      Get request{.offset = input.u8() < 160 ? 0 : input.near(5), .source = some_source(input, 12), .prefix = {}, .path = some_path(input)};
      return script.frame(FrameType::kGet, encode(request));
    }
    case 8: return script.frame(FrameType::kBegin, encode(Begin{input.near(0)}));
    case 9: return script.data(input.take(input.u8()));
    case 10: return script.end(input.flag());
    case 11: {
      const auto type = static_cast<FrameType>(input.u8() % 32);
      return script.odd_frame(type, input.take(input.u8()));
    }
    case 12: return script.raw(input.take(input.u8()));
    default: return put(input, script);
  }
}

// What the server said is frames, whole ones.
void check_answers(ConstBytes said) {
  while (!said.empty()) {
    require(said.size() >= kHeaderSize, "the server says whole frames");
    const auto header = decode_header(said.first(kHeaderSize));
    require(header && header->length <= said.size() - kHeaderSize, "the server keeps to the protocol");
    const ConstBytes payload = said.subspan(kHeaderSize, header->length);
    if (header->type == FrameType::kEntries) require(decode_entries(payload).has_value(), "a listing is one");
    if (header->type == FrameType::kStart) require(decode_start(payload).has_value(), "a start is one");
    said = said.subspan(kHeaderSize + header->length);
  }
}

}  // namespace

void run(ConstBytes bytes) {
  static FtpSandbox sandbox;
  Input input(bytes);
  sandbox.reset();
  const std::uint8_t how = input.u8();
  const std::size_t piece = (how & 4) != 0 ? 1 + input.u8() : 65536;
  FtpScript script;
  if ((how & 3) != 3) script.frame(FrameType::kHello, encode(Hello{}));
  while (!input.empty()) say(input, script);
  const auto files = RootedFiles::open(sandbox.inside());
  require(files.has_value(), "the directory is there");
  {
    const ServerOptions options{.read_only = (how & 8) != 0, .quiet = true};
    const std::atomic<bool> stopping = false;
    ServerSession session(Stream(memory_socket(script.bytes(), piece), "client", nullptr), *files, options, &stopping);
    const auto end = session.run();
    require(end || !end.error().text.empty(), "a session that fails says why");
  }
  check_answers(take_sent());
  sandbox.check(script.vague() ? nullptr : &script.whole());
}

}  // namespace stp::fuzz
