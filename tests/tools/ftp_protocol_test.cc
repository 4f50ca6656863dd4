#include "tools/ftp_protocol.h"

#include <gtest/gtest.h>

#include <random>

namespace stp::ftp {

namespace {

Digest digest_of(unsigned char fill) {
  Digest digest;
  digest.fill(std::byte{fill});
  return digest;
}

// Every decoder over the same bytes; the answer does not matter, only that there is one.
void decode_everything(ConstBytes bytes) {
  (void)decode_header(bytes);
  (void)decode_hello(bytes);
  (void)decode_welcome(bytes);
  (void)decode_error(bytes);
  (void)decode_path(bytes);
  (void)decode_mkdir(bytes);
  (void)decode_rename(bytes);
  (void)decode_get(bytes);
  (void)decode_put(bytes);
  (void)decode_start(bytes);
  (void)decode_begin(bytes);
  (void)decode_end(bytes);
  (void)decode_entries(bytes);
}

std::vector<Payload> samples() {
  std::vector<Payload> all = {encode(Hello{}),
                              encode(Welcome{1, true}),
                              encode(Failure{FailureCode::kDiskFull, "full"}),
                              encode(PathRequest{"a/b"}),
                              encode(Mkdir{0750, true, "d"}),
                              encode(Rename{"a", "b/c"}),
                              encode(Get{5, {9, -3}, digest_of(7), "f"}),
                              encode(Put{{9, 3}, 0600, true, "f"}),
                              encode(Start{4, {8, 2}, 0644, digest_of(1)}),
                              encode(Begin{4}),
                              encode(End{digest_of(2)})};
  for (Payload& part : encode_listing({{"x", FileKind::kFile, 0644, 12, 34, true}})) all.push_back(std::move(part));
  return all;
}

}  // namespace

TEST(FtpProtocol, HeaderBytesAreAsDocumented) {
  std::byte out[kHeaderSize];
  encode_header({FrameType::kData, 0x00010203}, out);
  const std::byte expected[] = {std::byte{3}, std::byte{2}, std::byte{1}, std::byte{0}, std::byte{24}, std::byte{0}, std::byte{0}, std::byte{0}};
  EXPECT_TRUE(std::ranges::equal(out, expected));
  const auto back = decode_header(out);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->type, FrameType::kData);
  EXPECT_EQ(back->length, 0x00010203u);
}

TEST(FtpProtocol, HeadersBeyondTheBoundsAreRefused) {
  std::byte out[kHeaderSize];
  const auto code = [&](FrameType type, std::uint32_t length) {
    encode_header({type, length}, out);
    return decode_header(out).has_value();
  };
  EXPECT_TRUE(code(FrameType::kData, kMaxData));
  EXPECT_FALSE(code(FrameType::kData, kMaxData + 1));
  EXPECT_TRUE(code(FrameType::kList, kMaxPayload));
  EXPECT_FALSE(code(FrameType::kList, kMaxPayload + 1));
  EXPECT_FALSE(code(static_cast<FrameType>(5), 0));
  EXPECT_FALSE(code(static_cast<FrameType>(0xffff), 0));
  encode_header({FrameType::kOk, 0}, out);
  out[6] = std::byte{1};
  EXPECT_FALSE(decode_header(out));
  EXPECT_FALSE(decode_header(ConstBytes(out).first(7)));
}

TEST(FtpProtocol, MessagesComeBackAsTheyWere) {
  EXPECT_EQ(decode_hello(encode(Hello{1, 4}))->highest, 4);
  EXPECT_TRUE(decode_welcome(encode(Welcome{1, true}))->read_only);
  EXPECT_EQ(decode_error(encode(Failure{FailureCode::kExists, "there"})).code, FailureCode::kExists);
  EXPECT_EQ(decode_path(encode(PathRequest{"a/b"}))->path, "a/b");
  EXPECT_EQ(decode_mkdir(encode(Mkdir{0700, true, "d"}))->mode, 0700u);
  EXPECT_EQ(decode_rename(encode(Rename{"a", "b"}))->to, "b");
  const auto get = decode_get(encode(Get{5, {9, -3}, digest_of(7), "f"}));
  ASSERT_TRUE(get);
  EXPECT_EQ(get->offset, 5u);
  EXPECT_EQ(get->source, (SourceIdentity{9, -3}));
  EXPECT_EQ(get->prefix, digest_of(7));
  const auto put = decode_put(encode(Put{{9, 3}, 0600, true, "f"}));
  ASSERT_TRUE(put);
  EXPECT_TRUE(put->whole);
  EXPECT_EQ(put->mode, 0600u);
  const auto start = decode_start(encode(Start{4, {8, 2}, 0644, digest_of(1)}));
  ASSERT_TRUE(start);
  EXPECT_EQ(start->source, (SourceIdentity{8, 2}));
  EXPECT_EQ(decode_begin(encode(Begin{77}))->offset, 77u);
  EXPECT_EQ(decode_end(encode(End{digest_of(9)}))->digest, digest_of(9));
}

TEST(FtpProtocol, LongListingsAreSplitAndComeBackWhole) {
  std::vector<FileEntry> entries;
  for (int i = 0; i < 3000; ++i) entries.push_back({std::string(200, 'n') + std::to_string(i), FileKind::kFile, 0644, 1, 2, i % 2 == 0});
  const auto parts = encode_listing(entries);
  EXPECT_GT(parts.size(), 1u);
  std::vector<FileEntry> back;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_LE(parts[i].size(), kMaxPayload);
    const auto part = decode_entries(parts[i]);
    ASSERT_TRUE(part);
    EXPECT_EQ(part->last, i + 1 == parts.size());
    back.insert(back.end(), part->entries.begin(), part->entries.end());
  }
  EXPECT_EQ(back, entries);
  EXPECT_EQ(encode_listing({}).size(), 1u);
  EXPECT_TRUE(decode_entries(encode_listing({}).front())->last);
}

TEST(FtpProtocol, NamesThatWouldLeadOutAreRefused) {
  for (const char* path : {"..", "../x", "a/../..", "/etc/passwd", "a//b", "./a"}) {
    EXPECT_EQ(decode_path(encode(PathRequest{path})).error().code, FailureCode::kRefused) << path;
    EXPECT_FALSE(decode_get(encode(Get{0, {}, {}, path}))) << path;
    EXPECT_FALSE(decode_rename(encode(Rename{"a", path}))) << path;
  }
  for (const char* name : {"..", "a/b", "/", "."})
    EXPECT_FALSE(decode_entries(encode_listing({{name, FileKind::kFile, 0, 0, 0, false}, {"x", FileKind::kFile, 0, 0, 0, false}}).front())) << name;
}

TEST(FtpProtocol, ImpossibleNumbersAreRefused) {
  EXPECT_FALSE(decode_get(encode(Get{10, {9, 0}, {}, "f"}))) << "resume beyond the end";
  EXPECT_FALSE(decode_put(encode(Put{{std::uint64_t{1} << 63, 0}, 0, false, "f"}))) << "no file is that long";
  EXPECT_FALSE(decode_start(encode(Start{10, {9, 0}, 0, {}})));
  Payload entries = encode_listing({{"x", FileKind::kFile, 0, 0, 0, false}}).front();
  entries[1] = std::byte{2};
  EXPECT_FALSE(decode_entries(entries)) << "more entries announced than there are";
}

TEST(FtpProtocol, ErrorTextsAndCodesOfAPeerAreTamed) {
  const Failure tamed = decode_error(encode(Failure{FailureCode::kNotFound, "a\x1b[31mb\n"}));
  EXPECT_EQ(tamed.text, "a\\x1b[31mb\\x0a");
  EXPECT_EQ(decode_error(encode(Failure{FailureCode::kInterrupted, "x"})).code, FailureCode::kOther);
  EXPECT_EQ(decode_error(encode(Failure{static_cast<FailureCode>(0), "x"})).code, FailureCode::kOther);
  EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f \xff \xc2\x9b"), "gr\xc3\xbc\xc3\x9f \\xff \\xc2\\x9b");
}

TEST(FtpProtocol, CutAndLengthenedMessagesAreRefused) {
  for (const Payload& sample : samples()) {
    for (std::size_t cut = 0; cut < sample.size(); ++cut) decode_everything(ConstBytes(sample).first(cut));
    Payload longer = sample;
    longer.push_back(std::byte{0});
    decode_everything(longer);
  }
  const Payload get = encode(Get{5, {9, -3}, digest_of(7), "f"});
  for (std::size_t cut = 0; cut < get.size(); ++cut) EXPECT_FALSE(decode_get(ConstBytes(get).first(cut))) << cut;
}

TEST(FtpProtocol, GarbageNeverCrashes) {
  std::mt19937_64 random(4711);
  for (int round = 0; round < 20000; ++round) {
    Payload bytes(random() % 120);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    decode_everything(bytes);
  }
  const auto all = samples();
  for (int round = 0; round < 20000; ++round) {
    Payload bytes = all[random() % all.size()];
    for (unsigned flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] ^= static_cast<std::byte>(1u << random() % 8);
    decode_everything(bytes);
  }
}

}  // namespace stp::ftp
