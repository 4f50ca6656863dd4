// The hosts of the group as an agent tells them to a program: names and states, for words and for looking names up.
#pragma once

#include "stp/bytes.h"
#include "stp/membership_board.h"

namespace stp::host {

// At most `most` bytes; hosts that do not fit are left out.
std::vector<std::byte> encode_hosts(const MembershipBoard::View& view, std::size_t most);
// What does not decode ends the list.
MembershipBoard::View decode_hosts(ConstBytes bytes);

}  // namespace stp::host
