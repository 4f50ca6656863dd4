// The same as exceptions.h, of unmodified programs under `stp run`.
#pragma once

#include "tests/differential/model.h"

namespace stp::differential {

bool run_excused(const Model& model, const Call& call, const States& before, const Outcome& ours, const Outcome& theirs, Uses& uses);
void run_excuse(const Model& model, const Known& known, State& ours, State& theirs, Uses& uses);

}  // namespace stp::differential
