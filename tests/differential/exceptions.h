// Which difference is one of those that are meant to be.
#pragma once

#include "tests/differential/model.h"

namespace stp::differential {

// Whether what a call gave on the two sides (and it is not the same) is one of them. `before` is as the kernel's side stood.
bool excused(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs, Uses& uses);
// Takes them out of how a socket stands.
void excuse(const Known& known, State& ours, State& theirs, Uses& uses);

}  // namespace stp::differential
