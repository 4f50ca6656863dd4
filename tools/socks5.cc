#include "tools/socks5.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "stp/names.h"
#include "tools/failure.h"

namespace stp::forward {
namespace {

constexpr std::uint8_t kVersion = 5;
constexpr std::uint8_t kNoAuthentication = 0, kNoMethod = 0xff;
constexpr std::uint8_t kConnect = 1;
constexpr std::uint8_t kIpv4 = 1, kName = 3, kIpv6 = 4;
constexpr std::string_view kSuffix = ".stp";

std::uint8_t byte_at(std::string_view bytes, std::size_t at) { return static_cast<std::uint8_t>(bytes[at]); }
std::string two_bytes(std::uint8_t first, std::uint8_t second) { return {static_cast<char>(first), static_cast<char>(second)}; }

}  // namespace

std::string socks_reply(SocksReply code) {
  std::string out = two_bytes(kVersion, static_cast<std::uint8_t>(code)) + two_bytes(0, kIpv4);
  out.append(6, '\0');
  return out;
}

SocksReply socks_reply_for(int error) {
  switch (error) {
    case ECONNREFUSED: return SocksReply::kRefused;
    case EHOSTUNREACH:
    case EHOSTDOWN: return SocksReply::kHostUnreachable;
    case ENETUNREACH:
    case ENETDOWN: return SocksReply::kNetUnreachable;
    case ETIMEDOUT: return SocksReply::kTimedOut;
    default: return SocksReply::kFailed;
  }
}

std::expected<std::string, SocksRefusal> stp_host_of(std::string_view name) {
  std::string folded = fold_name(name);
  if (folded.ends_with('.')) folded.pop_back();  // a complete name, as resolvers write it
  if (!folded.ends_with(kSuffix))
    return std::unexpected(SocksRefusal{SocksReply::kNotAllowed, fmt::format("\"{}\" is not HOST.stp or HOST.STG.stp", printable(name))});
  folded.resize(folded.size() - kSuffix.size());
  if (!valid_stp_host(folded))
    return std::unexpected(
        SocksRefusal{SocksReply::kHostUnreachable, fmt::format("\"{}\" can not be the name of an STP host", printable(name))});
  return folded;
}

std::size_t Socks5Handshake::wants() const { return state_ == State::kTalking ? needed_ - part_bytes_.size() : 0; }

std::string Socks5Handshake::answer() { return std::exchange(answer_, {}); }

void Socks5Handshake::take(std::span<const std::byte> bytes) {
  while (!bytes.empty() && state_ == State::kTalking) {
    const std::size_t count = std::min(bytes.size(), wants());
    part_bytes_.append(reinterpret_cast<const char*>(bytes.data()), count);
    bytes = bytes.subspan(count);
    if (part_bytes_.size() == needed_) finish_part();
  }
}

void Socks5Handshake::expect(Part part, std::size_t bytes) {
  part_ = part;
  needed_ = bytes;
  part_bytes_.clear();
}

void Socks5Handshake::refuse(std::string why) {
  state_ = State::kRefused;
  why_ = std::move(why);
}

void Socks5Handshake::refuse(SocksReply reply, std::string why) {
  answer_ += socks_reply(reply);
  refuse(std::move(why));
}

void Socks5Handshake::finish_part() {
  switch (part_) {
    case Part::kGreeting: return finish_greeting();
    case Part::kMethods: return finish_methods();
    case Part::kRequest: return finish_request();
    case Part::kNameLength: return expect(Part::kAddress, std::size_t{byte_at(part_bytes_, 0)} + 2);
    case Part::kAddress: return finish_address();
  }
}

// Version, number of methods.
void Socks5Handshake::finish_greeting() {
  const std::uint8_t version = byte_at(part_bytes_, 0), methods = byte_at(part_bytes_, 1);
  if (version != kVersion) return refuse(fmt::format("the client does not speak SOCKS5: it begins with byte {}", version));
  if (methods != 0) return expect(Part::kMethods, methods);
  answer_ += two_bytes(kVersion, kNoMethod);
  refuse("the client offers no way of authentication, not even none");
}

void Socks5Handshake::finish_methods() {
  const bool none = part_bytes_.contains(static_cast<char>(kNoAuthentication));
  answer_ += two_bytes(kVersion, none ? kNoAuthentication : kNoMethod);
  if (!none) return refuse("the client insists on authentication, and there is none here");
  expect(Part::kRequest, 4);
}

// Version, command, a spare byte, kind of address.
void Socks5Handshake::finish_request() {
  if (const std::uint8_t version = byte_at(part_bytes_, 0); version != kVersion)
    return refuse(SocksReply::kFailed, fmt::format("the request has version {} instead of 5", version));
  command_ = byte_at(part_bytes_, 1);
  address_type_ = byte_at(part_bytes_, 3);
  switch (address_type_) {
    case kName: return expect(Part::kNameLength, 1);
    case kIpv4: return expect(Part::kAddress, 4 + 2);
    case kIpv6: return expect(Part::kAddress, 16 + 2);
    default: return refuse(SocksReply::kNoSuchAddressType, fmt::format("there is no kind of address {}", address_type_));
  }
}

// Address and port, in network byte order.
void Socks5Handshake::finish_address() {
  if (command_ != kConnect) return refuse(SocksReply::kNoSuchCommand, fmt::format("command {} is not CONNECT", command_));
  if (address_type_ != kName)
    return refuse(SocksReply::kNoSuchAddressType,
                  "the client asks for an IP address; STP hosts have names, HOST.stp, which the proxy must be given as they are");
  const std::size_t length = part_bytes_.size() - 2;
  const auto host = stp_host_of(std::string_view(part_bytes_).substr(0, length));
  if (!host) return refuse(host.error().reply, host.error().why);
  const unsigned port = byte_at(part_bytes_, length) * 256u + byte_at(part_bytes_, length + 1);
  if (port == 0) return refuse(SocksReply::kRefused, fmt::format("nobody can listen on port 0 of {}", *host));
  destination_ = {.host = *host, .port = static_cast<std::uint16_t>(port)};
  state_ = State::kAsked;
}

}  // namespace stp::forward
