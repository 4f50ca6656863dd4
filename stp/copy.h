// Copies of bulk data: between programs' buffers, rings and extents.
//
// What memcpy does for large sizes ("rep movsb") is fifteen times slower on AMD's Zen where the target lies 1 to 15 bytes further into its page of 4 KiB than
// the source lies in its own (measured: 3 GB/s in place of 48): the processor takes each load for one of what it has just stored. It is no rare case:
// extents and buffers begin at pages, and what precedes bulk data in a stream is a header of a few bytes mostly. Backwards nothing looks like that.
#pragma once

#include "stp/bytes.h"

namespace stp {

// As memcpy: they must not overlap. `into` has room for all of `from`.
void copy_bytes(std::byte* into, ConstBytes from);

}  // namespace stp
