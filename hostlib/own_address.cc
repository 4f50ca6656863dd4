#include "hostlib/own_address.h"

#include <cerrno>

namespace stp::host {
namespace {

constexpr std::string_view kLocalHost = "localhost";

bool other_stg(const Address& address, Host& host) { return !address.stg.empty() && address.stg != host.superblock().stg; }

}  // namespace

bool is_own_name(std::string_view name, Host& host) {
  return name.empty() || name == kLocalHost || name == host.base_name() || name == host.own_name();
}

Address with_stg(Address address, Host& host) {
  address.stg = host.superblock().stg;
  return address;
}

Address local_address(const SocketInfo& info, Host& host) {
  Address address = with_stg(info.local, host);
  if (address.host.empty()) address.host = host.own_name();
  return address;
}

SocketError check_own(const Address& address, Host& host) {
  if (other_stg(address, host)) return {EADDRNOTAVAIL, Reason::kOtherStg};
  if (!is_own_name(address.host, host)) return {EADDRNOTAVAIL, Reason::kNone};
  return {};
}

SocketError complete_peer(Address& peer, Host& host) {
  if (other_stg(peer, host)) return {ENETUNREACH, Reason::kOtherStg};
  if (peer.host.empty() || peer.host == kLocalHost) peer.host = host.own_name();
  peer.stg.clear();
  return {};
}

}  // namespace stp::host
