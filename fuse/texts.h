// The texts of the files: "key value" lines, one thing a line, keys as they are in `stp hosts --json` and its like.
#pragma once

#include <string>

#include "fuse/view.h"

namespace stp::view {

std::string group_text(const Group& group, const Source& source);   // /status
std::string group_json(const Group& group, const Source& source);   // /status.json
std::string geometry_text(const Superblock& superblock);            // /ctl
std::string superblock_text(const Group& group);                    // /storage/superblock
std::string layout_text(const Geometry& geometry);                  // /storage/layout
std::string faults_text(const Faults& faults);                      // /storage/faults
std::string host_text(const Group& group, const HostReport& host, const std::vector<std::string>& faults);
std::string lease_text(const Group& group, const HostReport& host);
std::string socket_text(const SocketRow& row);
std::string local_text(const SocketRow& row);
std::string remote_text(const SocketRow& row);
std::string port_text(const PortRow& row);
std::string conduit_text(const Group& group, const Conduit& conduit);

}  // namespace stp::view
