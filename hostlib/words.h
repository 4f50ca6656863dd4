// Failures in words: what happened, to which object, what to do.
#pragma once

#include <string>
#include <string_view>

#include "stp/engine.h"
#include "stp/membership_board.h"
#include "stp/superblock.h"

namespace stp::host {

// `action` names call and object ("connect to beta:2021"); `peer` is the host's name if there is one, else empty.
// "connect to beta:2021: the host does not renew its lease (last beat 12.4 s ago, dead after 10 s)"
std::string failure_words(std::string_view action, const SocketError& error, std::string_view peer, const MembershipBoard::View& view,
                          const Superblock& superblock);

// "beta" of HOST names an entry by its instance name, or by the base name of one.
bool names_host(std::string_view name, std::string_view instance);

}  // namespace stp::host
