// Names of hosts and storage groups, and the text form of addresses.
//
// Host names are [a-z0-9-]{1,63}, STG names up to 31; upper case is taken as lower case. The second
// and further programs of one host carry the host's name and an instance: "alpha~2".
// Text form of an address: HOST:PORT or HOST.STG:PORT.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "stp/error.h"

namespace stp {

inline constexpr std::size_t kMaxHostName = 63;
inline constexpr std::size_t kMaxStgName = 31;

bool valid_host_name(std::string_view name);      // without an instance
bool valid_instance_name(std::string_view name);  // with or without: "alpha", "alpha~2"
bool valid_stg_name(std::string_view name);

// Lower case of `name`.
std::string fold_name(std::string_view name);

// "alpha~2" -> "alpha"; "alpha" -> "alpha".
std::string_view base_name(std::string_view instance);
// instance_name("alpha", 1) is "alpha", instance_name("alpha", 2) "alpha~2".
std::string instance_name(std::string_view base, unsigned number);

struct Address {
  std::string host;  // folded; may name an instance; empty = mine, or any
  std::string stg;   // folded; empty = the default
  std::uint16_t port = 0;
  bool operator==(const Address&) const = default;
};

Result<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);

}  // namespace stp
