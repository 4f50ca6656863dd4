// What `stp forward` is asked to carry where, as its options write it:
//   -L [ADDR:]PORT:HOST:PORT, -L /PATH:HOST:PORT    from TCP or a Unix socket of this machine to an STP host
//   -R PORT:ADDR:PORT, -R PORT:/PATH                from an STP port of this host to TCP or a Unix socket
//   -D [ADDR:]PORT                                  SOCKS5 on TCP: the client names the STP host
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hostlib/stp_address.h"
#include "stp/error.h"

namespace stp::forward {

enum class Direction { kLocal, kRemote, kDynamic };  // -L, -R, -D

// An ordinary stream socket's address: a Unix path, or else TCP.
struct KernelAddress {
  std::string path;  // empty: TCP
  std::string host;  // of a listener a numeric address, or empty: all of the machine's; of a destination a name or numeric address
  std::uint16_t port = 0;
  bool operator==(const KernelAddress&) const = default;
};

struct ForwardSpec {
  Direction direction = Direction::kLocal;
  KernelAddress kernel;  // -L and -D listen there, -R connects there
  StpAddress stp;        // -L connects there, -R listens there
  bool operator==(const ForwardSpec&) const = default;
};

// EINVAL, and the words say what was expected.
Result<ForwardSpec> parse_forward_spec(Direction direction, std::string_view text);

// "-L 127.0.0.1:8080:beta:80": complete, and read back as the same.
std::string to_string(const ForwardSpec& spec);
std::string to_string(const KernelAddress& address);
std::string to_string(const StpAddress& address);
std::string_view option_of(Direction direction);  // "-L"

// Is this HOST or HOST.STG, as far as its form goes? Lower case only.
bool valid_stp_host(std::string_view name);

}  // namespace stp::forward
