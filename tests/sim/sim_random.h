// Seeded randomness for everything in the simulation. Each part has its own generator, split from the seed.
#pragma once

#include "stp/dice.h"
#include "stp/timing.h"

namespace stp::sim {

using SimRandom = Dice;

}  // namespace stp::sim
