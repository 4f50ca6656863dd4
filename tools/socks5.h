// The server's side of a SOCKS5 handshake (RFC 1928; no authentication, CONNECT only) over bytes alone: no socket here.
//
// It never wants a byte more than belongs to the handshake, so that what the client sends right behind it stays where it is, for the
// conversation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "tools/forward_spec.h"

namespace stp::forward {

enum class SocksReply : std::uint8_t {
  kGranted = 0,
  kFailed = 1,
  kNotAllowed = 2,
  kNetUnreachable = 3,
  kHostUnreachable = 4,
  kRefused = 5,
  kTimedOut = 6,
  kNoSuchCommand = 7,
  kNoSuchAddressType = 8,
};

class Socks5Handshake {
 public:
  enum class State {
    kTalking,  // wants() more bytes
    kAsked,    // destination() is where the client wants to be connected; socks_reply() is the next thing it must be told
    kRefused,  // why() says why; after answer() there is nothing more to say
  };

  State state() const { return state_; }
  // So many bytes at most are to be read next; 0 when it is not talking. Never more than 257.
  std::size_t wants() const;
  // At most wants() of them, in as many pieces as they come.
  void take(std::span<const std::byte> bytes);
  // What is to be sent to the client now, once.
  std::string answer();

  const StpAddress& destination() const { return destination_; }
  const std::string& why() const { return why_; }

 private:
  enum class Part { kGreeting, kMethods, kRequest, kNameLength, kAddress };
  void finish_part();
  void finish_greeting();
  void finish_methods();
  void finish_request();
  void finish_address();
  void expect(Part part, std::size_t bytes);
  void refuse(std::string why);
  void refuse(SocksReply reply, std::string why);

  State state_ = State::kTalking;
  Part part_ = Part::kGreeting;
  std::size_t needed_ = 2;
  std::string part_bytes_;
  std::uint8_t command_ = 0, address_type_ = 0;
  std::string answer_;
  StpAddress destination_;
  std::string why_;
};

// The reply with that code; the bound address in it is 0.0.0.0:0, since the kernel's have none on STP.
std::string socks_reply(SocksReply code);
// The code for the errno of a connect that failed.
SocksReply socks_reply_for(int error);

// "beta.stp" -> "beta", "beta.shop.stp" -> "beta.shop". What is no name of an STP host gives the reply that refuses it.
struct SocksRefusal {
  SocksReply reply;
  std::string why;
};
std::expected<std::string, SocksRefusal> stp_host_of(std::string_view name);

}  // namespace stp::forward
