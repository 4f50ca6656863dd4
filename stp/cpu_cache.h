// Which bytes of memory lie in this processor's caches.
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

}  // namespace stp
