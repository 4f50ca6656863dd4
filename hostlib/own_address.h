// Addresses as this host sees them: which name and group are its own, what an empty one stands for.
#pragma once

#include "hostlib/host.h"
#include "stp/engine.h"
#include "stp/names.h"

namespace stp::host {

bool is_own_name(std::string_view name, Host& host);

// `address` with the storage group's name filled in.
Address with_stg(Address address, Host& host);
Address local_address(const SocketInfo& info, Host& host);

// For bind: a code of 0 when `address` is this host's, else EADDRNOTAVAIL.
SocketError check_own(const Address& address, Host& host);
// For connect: ENETUNREACH for another group; else fills in what an empty name or "localhost" stands for.
SocketError complete_peer(Address& peer, Host& host);

}  // namespace stp::host
