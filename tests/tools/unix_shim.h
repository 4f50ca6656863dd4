// Knobs of the stand-in for libstp in unix_shim.cc.
#pragma once

#include <cstddef>

namespace stp::shim {

// Flips one bit of the byte number `offset` of what this process sends on each socket that carries that much; 0 turns it off.
void corrupt_sent_byte(std::size_t offset);

}  // namespace stp::shim
