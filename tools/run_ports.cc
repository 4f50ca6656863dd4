#include "tools/run_ports.h"

#include <netinet/in.h>

#include <algorithm>

#include "tools/kernel_sockets.h"

namespace stp {

using run::NetAddress;
using run::SocketName;

std::optional<uid_t> RunPort::holder() const {
  for (const auto& name : names)
    if (!name || name->listens || !name->user || name->user != names[0]->user) return std::nullopt;
  return names[0]->user;
}

std::vector<SocketName> RunPort::entrances_of(uid_t user) const {
  std::vector<SocketName> out;
  for (const Entrance& entrance : shared)
    if (entrance.user == user) out.push_back(entrance.name);
  for (const Entrance& entrance : over_tcp)
    if (entrance.user == user && listens_on_tcp(entrance.name, user)) out.push_back(entrance.name);
  return out;
}

bool read_run_ports(const RunHosts& hosts, std::map<std::uint16_t, RunPort>& ports) {
  std::vector<UnixSocketFacts> sockets;
  if (!list_unix_sockets(run::kNameMark, sockets)) return false;
  for (const UnixSocketFacts& socket : sockets) {
    const auto name = run::decode_text(socket.name);
    if (!name || name->tail != hosts.storage_tag() || name->local.port == 0) continue;
    const bool here = name->local.ip == hosts.own_address();
    if (name->kind == SocketName::Kind::kListener && here)
      ports[name->local.port].names[name->v6 ? 1 : 0] = {.inode = socket.inode, .listens = socket.listens, .user = socket.user};
    const bool shared = name->kind == SocketName::Kind::kShared && here;
    const bool over_tcp = name->kind == SocketName::Kind::kOverTcp;
    if (!socket.user || (!shared && !over_tcp)) continue;
    RunPort& port = ports[name->local.port];
    port.sharers.insert(*socket.user);
    if (over_tcp) port.over_tcp.push_back({.name = *name, .user = *socket.user});
    if (shared && socket.listens) port.shared.push_back({.name = *name, .user = *socket.user});
  }
  return true;
}

NetAddress tcp_address_of(const SocketName& over_tcp) {
  return {over_tcp.local.ip == INADDR_ANY ? INADDR_LOOPBACK : over_tcp.local.ip, over_tcp.local.port};
}

// Asked for a segment from nowhere, the kernel names who would get a new connection there.
bool listens_on_tcp(const SocketName& over_tcp, uid_t user) {
  const NetAddress there = tcp_address_of(over_tcp);
  if (there.ip >> IN_CLASSA_NSHIFT != IN_LOOPBACKNET) return false;
  const auto socket = find_tcp_socket(there, {});
  // One that is bound to a device is not reached over the loopback interface, and somebody else's may be.
  return socket && socket->listens && socket->user == user && socket->device == 0 && socket->inode == over_tcp.peer.ip;
}

}  // namespace stp
