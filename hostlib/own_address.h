// Addresses as this host sees them: which name and group are its own, what an empty one stands for.
#pragma once

#include "hostlib/embedded_host.h"
#include "stp/engine.h"
#include "stp/names.h"

namespace stp::host {

// The instance name under which this process joined.
std::string own_name(EmbeddedHost& host);
bool is_own_name(std::string_view name, EmbeddedHost& host);

// `address` with the storage group's name filled in.
Address with_stg(Address address, EmbeddedHost& host);
Address local_address(const SocketInfo& info, EmbeddedHost& host);

// For bind: a code of 0 when `address` is this host's, else EADDRNOTAVAIL.
SocketError check_own(const Address& address, EmbeddedHost& host);
// For connect: ENETUNREACH for another group; else fills in what an empty name or "localhost" stands for.
SocketError complete_peer(Address& peer, EmbeddedHost& host);

}  // namespace stp::host
