#include "hostlib/own_address.h"

#include <cerrno>

namespace stp::host {
namespace {

constexpr std::string_view kLocalHost = "localhost";

bool other_stg(const Address& address, EmbeddedHost& host) { return !address.stg.empty() && address.stg != host.superblock().stg; }

}  // namespace

std::string own_name(EmbeddedHost& host) {
  const std::string name = host.board().view().self.name;
  return name.empty() ? host.base_name() : name;
}

bool is_own_name(std::string_view name, EmbeddedHost& host) {
  return name.empty() || name == kLocalHost || name == host.base_name() || name == own_name(host);
}

Address with_stg(Address address, EmbeddedHost& host) {
  address.stg = host.superblock().stg;
  return address;
}

Address local_address(const SocketInfo& info, EmbeddedHost& host) {
  Address address = with_stg(info.local, host);
  if (address.host.empty()) address.host = own_name(host);
  return address;
}

SocketError check_own(const Address& address, EmbeddedHost& host) {
  if (other_stg(address, host)) return {EADDRNOTAVAIL, Reason::kOtherStg};
  if (!is_own_name(address.host, host)) return {EADDRNOTAVAIL, Reason::kNone};
  return {};
}

SocketError complete_peer(Address& peer, EmbeddedHost& host) {
  if (other_stg(peer, host)) return {ENETUNREACH, Reason::kOtherStg};
  if (peer.host.empty() || peer.host == kLocalHost) peer.host = own_name(host);
  peer.stg.clear();
  return {};
}

}  // namespace stp::host
