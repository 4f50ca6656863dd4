// Which difference is one of those that are meant to be.
#pragma once

#include "tests/differential/model.h"

namespace stp::differential {

// Whether what a call gave on the two sides (and it is not the same) is one of them. `before` is as the kernel's side stood.
bool excused(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs, Uses& uses);
// Takes them out of how a socket stands.
void excuse(const Model& model, const Known& known, State& ours, State& theirs, Uses& uses);


bool both_fail(const Outcome& ours, int our_error, const Outcome& theirs, int their_error);
// What SO_ERROR gave, into however much room there was for it ("4: 68 0 0 0").
bool gives(const Outcome& outcome, int error);

}  // namespace stp::differential
