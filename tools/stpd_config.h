// The configuration of stpd: a TOML file, and what the command line says over it.
//
//   host = "alpha"                              name in the groups
//   stg = ["/dev/disk/by-id/..."]               data storage systems
//   agent = "/run/stp/agent.sock"               the Unix socket to serve on
//   mode = "0660"                               its permissions
//   ring_kib = 2048                             memory of each direction of a socket
//   local_over_disk = false                     whether two programs of this host talk over the disk too, as with other hosts: to try that on one machine
//   max_sockets = 16384                         that one user may have
//   max_memory_mib = 4096                       that the sockets of one user may have touched before new ones are refused
//   given_for_s = 60                            a socket that was given away and is not taken is reset then
//   metrics = "127.0.0.1:9717"                  statistics for Prometheus over HTTP; no such setting: none
//   run_network = "198.18.0.0/16"               where the addresses of STP hosts are taken from for `stp run`, on all hosts alike
//   [access]                                    names or numbers; deny wins; nothing allowed by name: everybody is
//   allow_users = ["shop"]
//   allow_groups = ["stp"]
//   deny_users = []
//   deny_groups = []
#pragma once

#include <string>
#include <vector>

#include "hostlib/agent_door.h"
#include "hostlib/run_address.h"
#include "stp/error.h"

namespace stp {

struct StpdConfig {
  std::vector<std::string> stgs;
  std::string host;
  std::string agent = host::kDefaultAgentPath;
  std::string mode = "0666";
  unsigned ring_kib = 2048;
  bool local_over_disk = false;
  unsigned most_sockets = 16384;
  unsigned most_memory_mib = 4096;
  unsigned given_for_s = 60;
  std::string metrics;
  run::Network run_network;
  host::AgentAccess access;
};

// Reads `path` over what `config` says already. Unknown keys, wrong types and users that there are not are errors, with the line.
Result<void> read_stpd_config(const std::string& path, StpdConfig& config);

}  // namespace stp
