#include "hostlib/run_address.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace stp::run {
namespace {

constexpr std::size_t kMarkBytes = sizeof kNameMark - 1;
constexpr std::size_t kNameBytes = kMarkBytes + 2 + 8 + 4 + 8 + 4 + 8;
constexpr std::size_t kHead = offsetof(sockaddr_un, sun_path) + 1;  // an abstract name begins with a NUL byte

void put_hex(char*& at, std::uint32_t value, int digits) {
  for (int i = digits - 1; i >= 0; --i) *at++ = "0123456789abcdef"[(value >> (4 * i)) & 15];
}

bool get_hex(const char*& at, std::uint32_t& value, int digits) {
  value = 0;
  for (int i = 0; i < digits; ++i) {
    const char c = *at++;
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    value = value << 4 | static_cast<std::uint32_t>(digit);
  }
  return true;
}

bool get_address(const char*& at, NetAddress& address) {
  std::uint32_t port = 0;
  if (!get_hex(at, address.ip, 8) || !get_hex(at, port, 4)) return false;
  address.port = static_cast<std::uint16_t>(port);
  return true;
}

}  // namespace

std::uint32_t Network::address_of(std::uint64_t storage, std::uint32_t slot) const {
  const std::uint32_t parts = (~mask() + 1) / kHostsOfAPart;
  const std::uint32_t part = parts > 1 ? static_cast<std::uint32_t>(storage % parts) : 0;
  return (base & mask()) + part * kHostsOfAPart + slot + 1;
}

UnixName encode(const SocketName& name) {
  UnixName out;
  out.address.sun_family = AF_UNIX;
  char* at = out.address.sun_path + 1;
  std::memcpy(at, kNameMark, kMarkBytes);
  at += kMarkBytes;
  *at++ = static_cast<char>(name.kind);
  *at++ = name.v6 ? '6' : '4';
  for (const NetAddress& address : {name.local, name.peer}) {
    put_hex(at, address.ip, 8);
    put_hex(at, address.port, 4);
  }
  put_hex(at, name.tail, 8);
  out.length = static_cast<socklen_t>(kHead + kNameBytes);
  return out;
}

std::string text_of(const SocketName& name) {
  const UnixName out = encode(name);
  return {out.address.sun_path + 1, kNameBytes};
}

std::optional<SocketName> decode(const sockaddr* address, socklen_t length) {
  if (length != kHead + kNameBytes || address->sa_family != AF_UNIX) return std::nullopt;
  const char* const path = reinterpret_cast<const sockaddr_un*>(address)->sun_path;
  return *path == 0 ? decode_text({path + 1, kNameBytes}) : std::nullopt;
}

std::optional<SocketName> decode_text(std::string_view text) {
  constexpr std::string_view kKinds = "LSBCREAZ";
  if (text.size() != kNameBytes || !text.starts_with(kNameMark)) return std::nullopt;
  const char* at = text.data() + kMarkBytes;
  SocketName name;
  const bool known = kKinds.contains(*at);
  name.kind = static_cast<SocketName::Kind>(*at++);
  if (!known || (*at != '4' && *at != '6')) return std::nullopt;
  name.v6 = *at++ == '6';
  if (!get_address(at, name.local) || !get_address(at, name.peer) || !get_hex(at, name.tail, 8)) return std::nullopt;
  return name;
}

std::optional<NetAddress> from_sockaddr(const sockaddr* address, socklen_t length) {
  if (address == nullptr || length < sizeof(sa_family_t) || length > sizeof(sockaddr_storage)) return std::nullopt;
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof in);
    return NetAddress{ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)};
  }
  if (address->sa_family != AF_INET6 || length < sizeof(sockaddr_in6)) return std::nullopt;
  sockaddr_in6 in;
  std::memcpy(&in, address, sizeof in);
  const std::uint16_t port = ntohs(in.sin6_port);
  if (IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr)) return NetAddress{INADDR_ANY, port};
  if (IN6_IS_ADDR_LOOPBACK(&in.sin6_addr)) return NetAddress{INADDR_LOOPBACK, port};
  if (!IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) return std::nullopt;
  std::uint32_t ip = 0;
  std::memcpy(&ip, in.sin6_addr.s6_addr + 12, sizeof ip);
  return NetAddress{ntohl(ip), port};
}

void to_sockaddr(NetAddress from, bool v6, sockaddr* address, socklen_t* length) {
  if (address == nullptr || length == nullptr) return;
  sockaddr_in in4 = {};
  sockaddr_in6 in6 = {};
  in4.sin_family = AF_INET;
  in4.sin_port = in6.sin6_port = htons(from.port);
  in4.sin_addr.s_addr = htonl(from.ip);
  in6.sin6_family = AF_INET6;
  in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(in6.sin6_addr.s6_addr + 12, &in4.sin_addr.s_addr, 4);
  if (from.ip == INADDR_ANY) in6.sin6_addr = in6addr_any;
  const void* const source = v6 ? static_cast<const void*>(&in6) : &in4;
  const socklen_t whole = v6 ? sizeof in6 : sizeof in4;
  std::memcpy(address, source, std::min(*length, whole));
  *length = whole;
}

}  // namespace stp::run
