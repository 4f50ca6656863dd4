// The socket calls of hostlib/stp.h for tools under the fuzzer: what they receive is what the input says, what they send is kept, and nothing
// is ever waited for.
#pragma once

#include <cstdint>
#include <vector>

#include "stp/bytes.h"

namespace stp::fuzz {

// A connected socket, whose peer says `bytes` and then ends. In pieces of at most `piece` bytes.
int memory_socket(ConstBytes bytes, std::size_t piece);
// What the next STPconnect() connects to.
void set_next_peer(ConstBytes bytes, std::size_t piece);
// What was sent on the last socket; taken.
std::vector<std::byte> take_sent();

}  // namespace stp::fuzz
