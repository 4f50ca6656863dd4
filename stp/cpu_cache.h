// Which bytes of memory lie in this processor's caches: giving lines up, and asking for them ahead.
//
// The disk of a virtual machine is a program of the hypervisor's: another processor copies what is read into our memory.
// Where our caches still hold the lines of that memory, every one of them has to be taken back first, and the disk as a whole
// becomes slower (a third, measured on virtio). So whoever is done with such a buffer gives its lines up.
#pragma once

#include "stp/bytes.h"

namespace stp {

// This is a virtual machine, and its processor can be told to give lines up.
bool eviction_helps_hypervisor();

// Writes the lines of `bytes` back to memory and forgets them; the bytes stay what they are. Costs about 15 us for 256 KiB.
// Only where eviction_helps_hypervisor(); elsewhere nothing happens.
void evict_from_cpu_cache(ConstBytes bytes);

// The line at `at` is going to be written soon: taken from whichever processor has it, without waiting. Harmless anywhere.
inline void prefetch_for_writing([[maybe_unused]] const void* at) {
#if defined(__x86_64__)
  // What the compiler makes of __builtin_prefetch there fetches for reading, unless it may build for newer processors alone.
  __asm__ volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

}  // namespace stp
