// Which program of which agent: what stp_clientid of the C API carries.
#pragma once

#include <cstdint>
#include <string>

namespace stp::host {

struct ClientId {
  std::string host;           // instance name
  std::uint64_t agent = 0;    // which life of the agent
  std::uint32_t program = 0;  // the agent's number of it; 0 as a taker: any program of the giver's user
  std::uint32_t pid = 0;      // for people
};

}  // namespace stp::host
