// Where an STP port is, as tools are told: a host by its name, and a port.
#pragma once

#include <cstdint>
#include <string>

namespace stp {

struct StpAddress {
  std::string host;  // HOST or HOST.STG; of a listener empty: this one
  std::uint16_t port = 0;
  bool operator==(const StpAddress&) const = default;
};

}  // namespace stp
