// The IPv4 addresses that STP hosts have for unmodified programs (`stp run`), and how a kernel socket that stands for an STP socket
// carries its addresses: in its abstract Unix name. A name stays with the socket across fork, exec, dup and descriptor passing, so the preloaded
// library needs no table of what is whose.
//
// A name after its leading NUL byte, 38 characters (socket(7) calls such names abstract, see unix(7)):
//
//   stp: KIND FAMILY LOCAL-IP LOCAL-PORT PEER-IP PEER-PORT TAIL
//        1    1      8 hex    4 hex      8 hex   4 hex     8 hex
//
//   KIND    L  bound, or listening: the peer is 0 and the tail says which storage system, so that a second socket can not be
//              bound to the same port, but to that of a host of another storage system that has the same address by chance
//           S  listening, one of several sockets that share the port (SO_REUSEPORT): the peer's port and the tail are as those of B
//           B  not connected: says that the TCP socket whose inode is the peer's IP listens there ("local": the address where it is bound) and is to have
//              what comes over STP, too. The peer's port is random; the tail says which storage system
//           C  connected: the program's end; the tail is random
//           R  connected: the agent's end of a conversation with another host, as its "local" address the other host's
//           E  a connect failed: the tail is the errno, and the local port the one that the program had bound it to, or 0
//           A  listening, and the agent's: the conversation C of two programs of this host with that peer, local port and tail is to end with a reset
//              when the end that connected closes, says the user whose number is the local IP (tools/run_aborts.h)
//           Z  the same, when the end that accepted closes
//   FAMILY  4 or 6, what the program calls its address family
//
// A port with S or B is held: by processes of one user, of which each has both L of it (IPv4's and IPv6's), on sockets that never listen. Whose these are,
// the port is.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace stp::run {

inline constexpr std::uint16_t kFirstFreePort = 1024;  // those below are root's

// Host byte order.
struct NetAddress {
  std::uint32_t ip = 0;
  std::uint16_t port = 0;
  bool operator==(const NetAddress&) const = default;
};

// The range that the addresses are taken from.
struct Network {
  std::uint32_t base = 0xc6120000;  // 198.18.0.0, for benchmarks between networks (RFC 2544): in no one's use, and never routed
  std::uint32_t prefix = 16;
  std::uint32_t mask() const { return prefix == 0 ? 0 : ~std::uint32_t{0} << (32 - prefix); }
  bool contains(std::uint32_t ip) const { return (ip & mask()) == (base & mask()); }
  // Of the host in that slot of the storage system with that UUID (a hash of it): stable as long as the slot is the host's, and alike on all hosts.
  // Each storage system has a part of 256 addresses, which follows from its UUID: by chance two have the same one (of the 256 parts of 198.18.0.0/16), and
  // an agent of both then serves `stp run` for the first of them alone. A larger range makes that as rare as is wanted.
  std::uint32_t address_of(std::uint64_t storage, std::uint32_t slot) const;
  bool in_one_part(std::uint32_t ip, std::uint32_t other) const { return contains(ip) && contains(other) && ip / kHostsOfAPart == other / kHostsOfAPart; }
  static constexpr std::uint32_t kHostsOfAPart = 256;
};
inline constexpr std::uint32_t kLongestPrefix = 24;  // room for the slots of one storage system

struct SocketName {
  enum class Kind : char { kListener = 'L', kShared = 'S', kOverTcp = 'B', kConnected = 'C', kRelayed = 'R', kFailed = 'E', kAborted = 'A', kAbortedByAccepter = 'Z' };
  Kind kind = Kind::kListener;
  bool v6 = false;
  NetAddress local = {};
  NetAddress peer = {};
  std::uint32_t tail = 0;
  bool operator==(const SocketName&) const = default;

  bool is_listener() const { return kind == Kind::kListener || kind == Kind::kShared; }
  static SocketName listener(NetAddress local, bool v6, std::uint32_t storage) {
    return {.kind = Kind::kListener, .v6 = v6, .local = local, .tail = storage};
  }
  // A conversation of two programs of one host.
  bool stays_here() const { return kind == Kind::kConnected && local.ip == peer.ip; }
  // The mark of one of its ends, as that user's.
  SocketName aborted_by(std::uint32_t user, bool accepter) const {
    return {.kind = accepter ? Kind::kAbortedByAccepter : Kind::kAborted, .v6 = v6, .local = {user, local.port}, .peer = peer, .tail = tail};
  }
};

struct UnixName {
  sockaddr_un address = {};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};
UnixName encode(const SocketName& name);
std::string text_of(const SocketName& name);  // without the NUL byte
inline constexpr char kNameMark[] = "stp:";     // how they all begin
// Nothing when it is no name of ours.
std::optional<SocketName> decode(const sockaddr* address, socklen_t length);
std::optional<SocketName> decode_text(std::string_view text);  // without the NUL byte

// An IPv4 address, also one inside of an IPv6 address (::ffff:a.b.c.d); :: is 0.0.0.0 and ::1 is 127.0.0.1.
std::optional<NetAddress> from_sockaddr(const sockaddr* address, socklen_t length);
// As accept(2) gives addresses: cut at `*length`, which becomes the whole length.
void to_sockaddr(NetAddress from, bool v6, sockaddr* address, socklen_t* length);

}  // namespace stp::run
