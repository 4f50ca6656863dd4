// The hosts of an agent's storage system by the names and IPv4 addresses that unmodified programs know them by (hostlib/run_address.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hostlib/agent.h"
#include "hostlib/run_address.h"

namespace stp {

class RunHosts {
 public:
  RunHosts(host::Agent& agent, const run::Network& network) : agent_(agent), network_(network) {}
  const run::Network& network() const { return network_; }
  std::uint32_t own_address() const { return address_of(agent_.name()); }
  std::uint32_t address_of(std::string_view host) const;        // 0: no such host
  std::uint32_t resolve(std::string_view name, bool without_stg) const;  // HOST.STG.stp, or HOST.stp where that is meant as well; 0: none
  std::string name_of(std::uint32_t ip) const;                  // empty: none
  // For the names of listening sockets.
  std::uint32_t storage_tag() const { return static_cast<std::uint32_t>(storage()); }

 private:
  std::uint64_t storage() const;
  host::Agent& agent_;
  const run::Network network_;
};

}  // namespace stp
