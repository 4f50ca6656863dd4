#include "tools/ftp_protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace stp::ftp {

namespace {

constexpr std::size_t kMaxErrorText = 1024;
constexpr std::uint64_t kMaxFileSize = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

// Grows as it is written to; everything encoded here is small and bounded by its fields.
class Builder {
 public:
  template <class T>
  void number(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof(T));
    store_le(out_.data() + at, value);
  }
  void raw(ConstBytes bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void string(std::string_view text) {
    number(static_cast<std::uint16_t>(text.size()));
    raw(std::as_bytes(std::span(text.data(), text.size())));
  }
  Payload take() { return std::move(out_); }
  std::size_t size() const { return out_.size(); }

 private:
  Payload out_;
};

void put_source(Builder& out, const SourceIdentity& source) {
  out.number(source.size);
  out.number(static_cast<std::uint64_t>(source.mtime_ns));
}

SourceIdentity get_source(Reader& in) {
  SourceIdentity source;
  source.size = in.u64();
  source.mtime_ns = static_cast<std::int64_t>(in.u64());
  return source;
}

std::string get_string(Reader& in) {
  const ConstBytes bytes = in.raw(in.u16());
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::unexpected<Failure> nonsense(std::string_view what) {
  return failure(FailureCode::kProtocol, fmt::format("the peer broke the file transfer protocol: bad {}", what));
}

// Whole and nothing left over.
bool complete(const Reader& in) { return !in.bad() && in.left() == 0; }

std::unexpected<Failure> bad_path(const std::string& path) {
  return failure(FailureCode::kRefused, fmt::format("\"{}\" is refused: paths must stay inside the root directory", printable(path)));
}

bool fits(std::uint64_t offset, const SourceIdentity& source) { return source.size <= kMaxFileSize && offset <= source.size; }

bool known(std::uint16_t type) { return (type >= 1 && type <= 4) || (type >= 10 && type <= 16) || (type >= 20 && type <= 26); }

}  // namespace

void encode_header(const FrameHeader& header, std::byte* out) {
  store_le(out, header.length);
  store_le(out + 4, static_cast<std::uint16_t>(header.type));
  store_le(out + 6, std::uint16_t{0});
}

Outcome<FrameHeader> decode_header(ConstBytes in) {
  Reader reader(in);
  FrameHeader header;
  header.length = reader.u32();
  const std::uint16_t type = reader.u16();
  if (reader.u16() != 0 || !complete(reader) || !known(type)) return nonsense("frame header");
  header.type = static_cast<FrameType>(type);
  if (header.length > (header.type == FrameType::kData ? kMaxData : kMaxPayload)) return nonsense("frame length");
  return header;
}

Payload encode(const Hello& message) {
  Builder out;
  out.number(kMagic);
  out.number(message.lowest);
  out.number(message.highest);
  return out.take();
}

Outcome<Hello> decode_hello(ConstBytes in) {
  Reader reader(in);
  Hello message;
  if (reader.u64() != kMagic) return nonsense("hello (not an stp-ftp)");
  message.lowest = reader.u16();
  message.highest = reader.u16();
  if (reader.bad()) return nonsense("hello");  // later versions may say more
  return message;
}

Payload encode(const Welcome& message) {
  Builder out;
  out.number(kMagic);
  out.number(message.version);
  out.number(std::uint16_t{0});
  out.number(std::uint32_t{message.read_only ? 1u : 0u});
  return out.take();
}

Outcome<Welcome> decode_welcome(ConstBytes in) {
  Reader reader(in);
  Welcome message;
  if (reader.u64() != kMagic) return nonsense("welcome (not an stp-ftpd)");
  message.version = reader.u16();
  reader.skip(2);
  message.read_only = (reader.u32() & 1) != 0;
  if (!complete(reader) || message.version != kVersion) return nonsense("welcome");
  return message;
}

Payload encode(const Failure& message) {
  Builder out;
  out.number(static_cast<std::uint16_t>(message.code));
  out.string(std::string_view(message.text).substr(0, kMaxErrorText));
  return out.take();
}

Failure decode_error(ConstBytes in) {
  Reader reader(in);
  const FailureCode code = code_from_wire(reader.u16());
  const std::string text = get_string(reader);
  if (!complete(reader) || text.empty() || text.size() > kMaxErrorText) return {FailureCode::kProtocol, "the peer sent a damaged error message"};
  return {code, printable(text)};
}

Payload encode(const PathRequest& message) {
  Builder out;
  out.string(message.path);
  return out.take();
}

Outcome<PathRequest> decode_path(ConstBytes in) {
  Reader reader(in);
  PathRequest message{get_string(reader)};
  if (!complete(reader)) return nonsense("path");
  if (!valid_relative_path(message.path)) return bad_path(message.path);
  return message;
}

Payload encode(const Mkdir& message) {
  Builder out;
  out.number(message.mode);
  out.number(std::uint8_t{message.may_exist});
  out.string(message.path);
  return out.take();
}

Outcome<Mkdir> decode_mkdir(ConstBytes in) {
  Reader reader(in);
  Mkdir message;
  message.mode = reader.u32();
  const std::uint8_t may_exist = reader.u8();
  message.may_exist = may_exist != 0;
  message.path = get_string(reader);
  if (!complete(reader) || may_exist > 1) return nonsense("mkdir");
  if (!valid_relative_path(message.path)) return bad_path(message.path);
  return message;
}

Payload encode(const Rename& message) {
  Builder out;
  out.string(message.from);
  out.string(message.to);
  return out.take();
}

Outcome<Rename> decode_rename(ConstBytes in) {
  Reader reader(in);
  Rename message;
  message.from = get_string(reader);
  message.to = get_string(reader);
  if (!complete(reader)) return nonsense("rename");
  if (!valid_relative_path(message.from)) return bad_path(message.from);
  if (!valid_relative_path(message.to)) return bad_path(message.to);
  return message;
}

Payload encode(const Get& message) {
  Builder out;
  out.number(message.offset);
  put_source(out, message.source);
  out.raw(message.prefix);
  out.string(message.path);
  return out.take();
}

Outcome<Get> decode_get(ConstBytes in) {
  Reader reader(in);
  Get message;
  message.offset = reader.u64();
  message.source = get_source(reader);
  message.prefix = reader.array<32>();
  message.path = get_string(reader);
  if (!complete(reader) || !fits(message.offset, message.source)) return nonsense("get");
  if (!valid_relative_path(message.path)) return bad_path(message.path);
  return message;
}

Payload encode(const Put& message) {
  Builder out;
  put_source(out, message.source);
  out.number(message.mode);
  out.number(std::uint8_t{message.whole});
  out.string(message.path);
  return out.take();
}

Outcome<Put> decode_put(ConstBytes in) {
  Reader reader(in);
  Put message;
  message.source = get_source(reader);
  message.mode = reader.u32();
  const std::uint8_t whole = reader.u8();
  message.whole = whole != 0;
  message.path = get_string(reader);
  if (!complete(reader) || whole > 1 || !fits(0, message.source)) return nonsense("put");
  // The flag decides whether data follows, so a bad path is reported by the server's put, not here.
  return message;
}

Payload encode(const Start& message) {
  Builder out;
  out.number(message.offset);
  put_source(out, message.source);
  out.number(message.mode);
  out.raw(message.prefix);
  return out.take();
}

Outcome<Start> decode_start(ConstBytes in) {
  Reader reader(in);
  Start message;
  message.offset = reader.u64();
  message.source = get_source(reader);
  message.mode = reader.u32();
  message.prefix = reader.array<32>();
  if (!complete(reader) || !fits(message.offset, message.source)) return nonsense("start");
  return message;
}

Payload encode(const Begin& message) {
  Builder out;
  out.number(message.offset);
  return out.take();
}

Outcome<Begin> decode_begin(ConstBytes in) {
  Reader reader(in);
  const Begin message{reader.u64()};
  if (!complete(reader)) return nonsense("begin");
  return message;
}

Payload encode(const End& message) { return Payload(message.digest.begin(), message.digest.end()); }

Outcome<End> decode_end(ConstBytes in) {
  Reader reader(in);
  const End message{reader.array<32>()};
  if (!complete(reader)) return nonsense("end");
  return message;
}

std::vector<Payload> encode_listing(const std::vector<FileEntry>& entries) {
  constexpr std::size_t kEntryMax = 1 + 1 + 4 + 8 + 8 + 2 + 255;
  std::vector<Payload> out;
  std::size_t next = 0;
  do {
    Builder body;
    std::uint16_t count = 0;
    for (; next < entries.size() && body.size() + kEntryMax + 3 <= kMaxPayload; ++next, ++count) {
      const FileEntry& entry = entries[next];
      body.number(static_cast<std::uint8_t>(entry.kind));
      body.number(std::uint8_t{entry.through_link});
      body.number(entry.mode);
      body.number(entry.size);
      body.number(static_cast<std::uint64_t>(entry.mtime_ns));
      body.string(entry.name);
    }
    Builder whole;
    whole.number(std::uint8_t{next == entries.size()});
    whole.number(count);
    whole.raw(body.take());
    out.push_back(whole.take());
  } while (next < entries.size());
  return out;
}

Outcome<Entries> decode_entries(ConstBytes in) {
  Reader reader(in);
  Entries message;
  const std::uint8_t last = reader.u8();
  message.last = last != 0;
  const std::uint16_t count = reader.u16();
  for (std::uint16_t i = 0; i < count && !reader.bad(); ++i) {
    FileEntry entry;
    const std::uint8_t kind = reader.u8();
    const std::uint8_t through_link = reader.u8();
    entry.kind = static_cast<FileKind>(kind);
    entry.through_link = through_link != 0;
    entry.mode = reader.u32() & 07777;
    entry.size = reader.u64();
    entry.mtime_ns = static_cast<std::int64_t>(reader.u64());
    entry.name = get_string(reader);
    // A listing names what is in one directory: anything but a plain name would lead out of the reader's own.
    if (kind < 1 || kind > 4 || through_link > 1 || !(valid_file_name(entry.name) || (entry.name.empty() && count == 1)))
      return nonsense(fmt::format("name in a listing: \"{}\"", printable(entry.name)));
    message.entries.push_back(std::move(entry));
  }
  if (!complete(reader) || last > 1) return nonsense("listing");
  return message;
}

}  // namespace stp::ftp
