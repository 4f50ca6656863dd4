// The file transfer protocol between stp-ftp and stp-ftpd, over one STP stream.
//
// Everything is a frame, numbers little-endian:
//
//   offset size
//        0    4  length of the payload: at most 1 MiB for DATA, 64 KiB for all others
//        4    2  type
//        6    2  zero
//        8       payload
//
// A "string" is u16 length and bytes; a path is a string relative to the server's root ("" is the root; no "." or ".." component).
//
//   type        payload                                                       sent by   answered by
//   kHello      u64 magic, u16 lowest and u16 highest version spoken          client    kWelcome or kError, then end
//   kWelcome    u64 magic, u16 version, u16 zero, u32 flags (1: read-only)    server
//   kError      u16 code (FailureCode), string text                           server
//   kOk         -                                                             server
//   kList       path                                                          client    kEntries ... (the last says so), or kError
//   kEntries    u8 last, u16 count, count * entry                             server
//   kStat       path                                                          client    kEntries with one entry
//   kMkdir      u32 mode, u8 1 = may exist, path                              client    kOk
//   kRmdir      path                                                          client    kOk
//   kRemove     path                                                          client    kOk
//   kRename     path from, path to                                            client    kOk
//   kGet        u64 offset, u64 size, i64 mtime_ns, 32 prefix digest, path    client    kStart, kData ..., kEnd; or kError at any point
//   kPut        u64 size, i64 mtime_ns, u32 mode, u8 1 = whole, path          client    kStart (unless whole), at the end kOk; or kError
//   kStart      u64 offset, u64 size, i64 mtime_ns, u32 mode, 32 digest       server
//   kBegin      u64 offset                                                    client    (within a put)
//   kData       bytes of the file                                             both
//   kEnd        32 digest of the whole file                                   both
//   kAbort      -                                                             client    (in place of kEnd) kError
//
//   entry: u8 kind, u8 1 = through a symbolic link, u32 mode, u64 size, i64 mtime_ns, string name
//
// Requests are worked on in order and may be sent ahead: answers come in the same order. Each has exactly one final answer.
//
// get: offset, size and mtime_ns say what an earlier transfer left and of which source; the server continues at offset if its file
// has that size and time and its first `offset` bytes that SHA-256, else at 0: kStart says which. get ends with the digest of the whole file.
// put: the server's kStart says how many bytes it has from a source of that size and time, and their digest; the client answers kBegin with that offset if its own file
// agrees, else with 0; then the bytes and the digest, which the server compares before the file gets its name. With `whole` all follows at once, from 0.
// After a kError to a put the server drops the rest of it, up to kEnd or kAbort. A put whose kStart was replaced by kError has no rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "stp/bytes.h"
#include "tools/failure.h"
#include "tools/part_file.h"
#include "tools/rooted_files.h"
#include "tools/sha256.h"

namespace stp::ftp {

inline constexpr std::uint64_t kMagic = 0x0a31505446505453;  // "STPFTP1\n"
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint16_t kDefaultPort = 2021;
inline constexpr std::size_t kHeaderSize = 8;
inline constexpr std::size_t kMaxData = std::size_t{1} << 20;
inline constexpr std::size_t kMaxPayload = std::size_t{64} << 10;

enum class FrameType : std::uint16_t {
  kHello = 1,
  kWelcome = 2,
  kError = 3,
  kOk = 4,
  kList = 10,
  kEntries = 11,
  kStat = 12,
  kMkdir = 13,
  kRmdir = 14,
  kRemove = 15,
  kRename = 16,
  kGet = 20,
  kPut = 21,
  kStart = 22,
  kBegin = 23,
  kData = 24,
  kEnd = 25,
  kAbort = 26,
};

struct FrameHeader {
  FrameType type = FrameType::kOk;
  std::uint32_t length = 0;
};

using Payload = std::vector<std::byte>;

void encode_header(const FrameHeader& header, std::byte* out);  // kHeaderSize bytes
// kProtocol: unknown type, a length beyond the bound, reserved bits.
Outcome<FrameHeader> decode_header(ConstBytes in);

struct Hello {
  std::uint16_t lowest = kVersion;
  std::uint16_t highest = kVersion;
};
struct Welcome {
  std::uint16_t version = kVersion;
  bool read_only = false;
};
struct PathRequest {  // kList, kStat, kRmdir, kRemove
  std::string path;
};
struct Mkdir {
  std::uint32_t mode = 0755;
  bool may_exist = false;
  std::string path;
};
struct Rename {
  std::string from;
  std::string to;
};
struct Get {
  std::uint64_t offset = 0;
  SourceIdentity source;
  Digest prefix{};
  std::string path;
};
struct Put {
  SourceIdentity source;
  std::uint32_t mode = 0644;
  bool whole = false;
  std::string path;
};
struct Start {
  std::uint64_t offset = 0;
  SourceIdentity source;
  std::uint32_t mode = 0;
  Digest prefix{};
};
struct Begin {
  std::uint64_t offset = 0;
};
struct End {
  Digest digest{};
};
struct Entries {
  bool last = true;
  std::vector<FileEntry> entries;
};

Payload encode(const Hello& message);
Payload encode(const Welcome& message);
Payload encode(const Failure& message);  // kError; the text is cut to 1 KiB
Payload encode(const PathRequest& message);
Payload encode(const Mkdir& message);
Payload encode(const Rename& message);
Payload encode(const Get& message);
Payload encode(const Put& message);
Payload encode(const Start& message);
Payload encode(const Begin& message);
Payload encode(const End& message);
// Splits into as many payloads as the bound asks for; at least one.
std::vector<Payload> encode_listing(const std::vector<FileEntry>& entries);

// Decoders check every field: sizes that fit a file, names that are one component, paths that are relative. kProtocol otherwise, except that a
// path which leads upwards is kRefused, so that a person is told. Only Failure has a text that may hold anything; it is made printable.
Outcome<Hello> decode_hello(ConstBytes in);
Outcome<Welcome> decode_welcome(ConstBytes in);
Failure decode_error(ConstBytes in);
Outcome<PathRequest> decode_path(ConstBytes in);
Outcome<Mkdir> decode_mkdir(ConstBytes in);
Outcome<Rename> decode_rename(ConstBytes in);
Outcome<Get> decode_get(ConstBytes in);
Outcome<Put> decode_put(ConstBytes in);
Outcome<Start> decode_start(ConstBytes in);
Outcome<Begin> decode_begin(ConstBytes in);
Outcome<End> decode_end(ConstBytes in);
Outcome<Entries> decode_entries(ConstBytes in);

}  // namespace stp::ftp
