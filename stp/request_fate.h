// What becomes of one request to a storage, drawn when it is submitted. The same drawing decides in the simulated storage and in the
// layer that STP_FAULTS puts over a real one; how the fate comes true is theirs.
#pragma once

#include <cstdint>
#include <vector>

#include "stp/fault_plan.h"
#include "stp/medium.h"
#include "stp/dice.h"

namespace stp {

// What a write that is torn lands in.
inline constexpr std::uint32_t kFaultSectorBytes = 512;

struct RequestFate {
  Nanos delay = 0;
  int error = 0;                    // instead of success; of a write, `missing` says how much has landed all the same
  std::uint64_t place = 0;          // the block where it lands
  std::vector<bool> missing{};      // by sector of a write: what never lands. Empty: all of it lands
  std::vector<std::uint64_t> flips{};  // the bits of its bytes that turn: of a write on the way there, of a read on the way back
  Nanos undo_after = 0;             // that long after it completed a write lands once more; 0: it does not

  bool nothing_lands() const;
  // Not the least thing is to be done about it.
  bool good(const IoRequest& request) const;
};

RequestFate draw_fate(Dice& random, const FaultPlan& plan, const IoRequest& request, std::uint32_t block_size, std::uint64_t total_blocks);

void flip_bits(Bytes bytes, const std::vector<std::uint64_t>& bits);

}  // namespace stp
