// The configuration of stpd: a TOML file, and what the command line says over it.
//
//   host = "alpha"                              name in the groups
//   stg = ["/dev/disk/by-id/..."]               data storage systems
//   agent = "/run/stp/agent.sock"               the Unix socket to serve on
//   mode = "0660"                               its permissions
//   ring_kib = 1024                             memory of each direction of a socket
//   max_sockets = 16384                         that one user may have
//   [access]                                    names or numbers; deny wins; nothing allowed by name: everybody is
//   allow_users = ["shop"]
//   allow_groups = ["stp"]
//   deny_users = []
//   deny_groups = []
#pragma once

#include <string>
#include <vector>

#include "hostlib/agent_door.h"
#include "stp/error.h"

namespace stp {

struct StpdConfig {
  std::vector<std::string> stgs;
  std::string host;
  std::string agent = host::kDefaultAgentPath;
  std::string mode = "0666";
  unsigned ring_kib = 1024;
  unsigned most_sockets = 16384;
  host::AgentAccess access;
};

// Reads `path` over what `config` says already. Unknown keys, wrong types and users that there are not are errors, with the line.
Result<void> read_stpd_config(const std::string& path, StpdConfig& config);

}  // namespace stp
