// Addresses of STP hosts for unmodified programs, and the names that sockets carry them in.
#include "hostlib/run_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <string>

namespace stp::run {
namespace {

constexpr std::size_t kHead = offsetof(sockaddr_un, sun_path);

std::string text_of(const UnixName& name) { return {name.address.sun_path, name.length - kHead}; }

std::optional<SocketName> decode_bytes(const std::string& text) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, text.data(), text.size());
  return decode(reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(kHead + text.size()));
}

TEST(RunAddress, NamesHaveTheseBytes) {
  const SocketName name{.kind = SocketName::Kind::kConnected, .v6 = true, .local = {0xc6120101, 80}, .peer = {0xc6120102, 0xffff}, .tail = 0xdeadbeef};
  EXPECT_EQ(text_of(encode(name)), std::string("\0stp:C6c61201010050c6120102ffffdeadbeef", 39));
  EXPECT_EQ(text_of(encode(SocketName::listener({0xc6120101, 22}, false, 7))), std::string("\0stp:L4c6120101001600000000000000000007", 39));
}

TEST(RunAddress, AMarkSaysItsConversationAndItsUser) {
  const SocketName here{.kind = SocketName::Kind::kConnected, .v6 = false, .local = {0xc6120101, 40000}, .peer = {0xc6120101, 80}, .tail = 0xdeadbeef};
  EXPECT_TRUE(here.stays_here());
  EXPECT_EQ(text_of(encode(here.aborted_by(1000, false))), std::string("\0stp:A4000003e89c40c61201010050deadbeef", 39));
  EXPECT_EQ(text_of(encode(here.aborted_by(1000, true))), std::string("\0stp:Z4000003e89c40c61201010050deadbeef", 39));
  SocketName away = here;
  away.peer.ip = 0xc6120102;
  EXPECT_FALSE(away.stays_here());
  EXPECT_FALSE(here.aborted_by(0xc6120101, false).stays_here());
}

TEST(RunAddress, NamesComeBackAsTheyWere) {
  for (const auto kind : {SocketName::Kind::kListener, SocketName::Kind::kShared, SocketName::Kind::kOverTcp, SocketName::Kind::kConnected, SocketName::Kind::kRelayed, SocketName::Kind::kFailed, SocketName::Kind::kAborted, SocketName::Kind::kAbortedByAccepter}) {
    const SocketName name{.kind = kind, .v6 = false, .local = {1, 2}, .peer = {3, 4}, .tail = 111};
    const UnixName text = encode(name);
    const auto back = decode(text.get(), text.length);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->kind, kind);
    EXPECT_EQ(back->local, name.local);
    EXPECT_EQ(back->peer, name.peer);
    EXPECT_EQ(back->tail, 111u);
    EXPECT_FALSE(back->v6);
  }
}

TEST(RunAddress, OtherNamesAreNoneOfOurs) {
  const std::string good = text_of(encode(SocketName::listener({1, 2}, false, 3)));
  ASSERT_TRUE(decode_bytes(good));
  EXPECT_FALSE(decode_bytes(good.substr(0, good.size() - 1)));
  EXPECT_FALSE(decode_bytes(good + "0"));
  EXPECT_FALSE(decode_bytes(""));
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = '?';
    EXPECT_FALSE(decode_bytes(bad)) << i;
  }
  std::string upper = good;
  upper[8] = 'A';  // one text for each name, or two sockets could have the same port
  EXPECT_FALSE(decode_bytes(upper));
}

TEST(RunAddress, TheKernelKeepsANameAndKeepsItAlone) {
  const UnixName name = encode(SocketName::listener({0xc6120101, 77}, false, static_cast<std::uint32_t>(::getpid())));
  const int first = ::socket(AF_UNIX, SOCK_STREAM, 0), second = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(first, name.get(), name.length), 0);
  EXPECT_EQ(::bind(second, name.get(), name.length), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  sockaddr_storage got = {};
  socklen_t length = sizeof got;
  ASSERT_EQ(::getsockname(first, reinterpret_cast<sockaddr*>(&got), &length), 0);
  EXPECT_TRUE(decode(reinterpret_cast<const sockaddr*>(&got), length));
  (void)::close(first);
  EXPECT_EQ(::bind(second, name.get(), name.length), 0);  // free as soon as it is closed
  (void)::close(second);
}

TEST(RunAddress, EachSlotHasAnAddressOfTheNetwork) {
  const Network network;
  std::set<std::uint32_t> seen;
  for (std::uint32_t slot = 0; slot < 128; ++slot) {
    const std::uint32_t ip = network.address_of(0x123456789abcdef0, slot);
    EXPECT_TRUE(network.contains(ip));
    EXPECT_TRUE(seen.insert(ip).second);
  }
  EXPECT_FALSE(network.contains(0xc6110101));
  EXPECT_FALSE(network.contains(0xc6130101));
  const Network smallest{.base = 0x0a0b0c00, .prefix = kLongestPrefix};
  EXPECT_EQ(smallest.address_of(99, 127), 0x0a0b0c80u);
}

TEST(RunAddress, AddressesOfProgramsAreReadInBothFamilies) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_port = htons(80);
  in.sin_addr.s_addr = htonl(0xc6120101);
  EXPECT_EQ(from_sockaddr(reinterpret_cast<const sockaddr*>(&in), sizeof in), (NetAddress{0xc6120101, 80}));
  EXPECT_FALSE(from_sockaddr(reinterpret_cast<const sockaddr*>(&in), sizeof in - 1));
  EXPECT_FALSE(from_sockaddr(nullptr, sizeof in));
  sockaddr_in6 six = {};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(80);
  const auto read = [&six](const char* text) {
    (void)::inet_pton(AF_INET6, text, &six.sin6_addr);
    return from_sockaddr(reinterpret_cast<const sockaddr*>(&six), sizeof six);
  };
  EXPECT_EQ(read("::ffff:198.18.1.1"), (NetAddress{0xc6120101, 80}));
  EXPECT_EQ(read("::"), (NetAddress{INADDR_ANY, 80}));
  EXPECT_EQ(read("::1"), (NetAddress{INADDR_LOOPBACK, 80}));
  EXPECT_FALSE(read("2001:db8::1"));
}

TEST(RunAddress, AnAnswerIsCutAtTheRoomThatThereIs) {
  sockaddr_in in = {};
  socklen_t length = 4;
  to_sockaddr({0xc6120101, 80}, false, reinterpret_cast<sockaddr*>(&in), &length);
  EXPECT_EQ(length, sizeof in);
  EXPECT_EQ(in.sin_family, AF_INET);
  EXPECT_EQ(in.sin_port, htons(80));
  EXPECT_EQ(in.sin_addr.s_addr, 0u);
}

TEST(RunAddress, EveryStorageHasAPartOfTheRange) {
  const Network network;
  EXPECT_TRUE(network.in_one_part(network.address_of(3, 0), network.address_of(3, 254)));
  EXPECT_TRUE(network.in_one_part(network.address_of(3, 0), network.address_of(3 + 256, 7)));
  EXPECT_FALSE(network.in_one_part(network.address_of(3, 0), network.address_of(4, 0)));
  EXPECT_FALSE(network.in_one_part(0, network.address_of(0, 0)));
}

}  // namespace
}  // namespace stp::run
