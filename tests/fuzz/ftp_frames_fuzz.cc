// The decoders of the file transfer protocol. What one accepts is encoded again, and read as the same.
#include <vector>

#include "tests/fuzz/target.h"
#include "tools/ftp_protocol.h"

namespace stp::fuzz {
namespace {

using namespace stp::ftp;

template <class Decode>
void stable(const Decode& decode, ConstBytes bytes) {
  const auto message = decode(bytes);
  if (!message) return require(!message.error().text.empty(), "a refusal has words");
  const Payload once = encode(*message);
  const auto again = decode(once);
  require(again && encode(*again) == once, "a message is read as it was written");
}

void listing(ConstBytes bytes) {
  const auto entries = decode_entries(bytes);
  if (!entries) return;
  for (const FileEntry& entry : entries->entries) require(valid_file_name(entry.name) || (entry.name.empty() && entries->entries.size() == 1), "what is listed is a name");
  const std::vector<Payload> parts = encode_listing(entries->entries);
  std::vector<FileEntry> back;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto part = decode_entries(parts[i]);
    require(part && part->last == (i + 1 == parts.size()) && parts[i].size() <= kMaxPayload, "a listing is read as it was written");
    back.insert(back.end(), part->entries.begin(), part->entries.end());
  }
  require(back == entries->entries, "and nothing of it is lost");
}

void error(ConstBytes bytes) {
  const Failure why = decode_error(bytes);
  require(!why.text.empty() && std::ranges::none_of(why.text, [](unsigned char c) { return c < 0x20 || c == 0x7f; }), "an error is fit for a terminal");
  (void)decode_error(encode(why));
}

}  // namespace

void run(ConstBytes bytes) {
  Input input(bytes);
  const std::uint8_t which = input.u8();
  const ConstBytes rest = input.rest();
  switch (which % 14) {
    case 0: {
      const auto header = decode_header(rest);
      if (!header) return;
      std::byte again[kHeaderSize];
      encode_header(*header, again);
      require(std::ranges::equal(again, rest), "a header is written as it was read");
      return;
    }
    case 1: return stable(decode_hello, rest);
    case 2: return stable(decode_welcome, rest);
    case 3: return error(rest);
    case 4: return stable(decode_path, rest);
    case 5: return stable(decode_mkdir, rest);
    case 6: return stable(decode_rename, rest);
    case 7: return stable(decode_get, rest);
    case 8: return stable(decode_put, rest);
    case 9: return stable(decode_start, rest);
    case 10: return stable(decode_begin, rest);
    case 11: return stable(decode_end, rest);
    default: return listing(rest);
  }
}

}  // namespace stp::fuzz
