// Deadlines on the clock of everything below (CLOCK_BOOTTIME nanoseconds).
#pragma once

#include "stp/timing.h"

namespace stp::host {

// now + span without overflow; a span of kNever stays kNever.
inline Nanos after(Nanos now, Nanos span) { return span >= kNever - now ? kNever : now + span; }

}  // namespace stp::host
