// Knobs of the stand-in for libstp in unix_shim.cc.
#pragma once

#include <cstddef>

namespace stp::shim {

// Flips one bit of the byte number `offset` of what this process sends on each socket that carries that much; 0 turns it off.
void corrupt_sent_byte(std::size_t offset);

// Whether send_in_place and receive_in_place (hostlib/in_place.h) are to be had.
void lend(bool on);

}  // namespace stp::shim
