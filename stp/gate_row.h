// Looks at the gates that the others write for me: my row of the gate matrix, all slots in use in one read. Slowly when
// nothing is awaited (the more slots, the slower: idle costs a bounded number of bytes), fast while somebody waits for an ack.
#pragma once

#include <functional>
#include <vector>

#include "stp/core.h"
#include "stp/gate.h"

namespace stp {

class GateRow {
 public:
  using OnGate = std::function<void(Slot sender, const Gate& gate)>;
  GateRow(Core& core, OnGate on_gate) : core_(core), on_gate_(std::move(on_gate)) {}

  // Submits the next look when it is due. `eager`: some conduit waits for its peer's gate.
  void poll(Slot slots_in_use, bool eager);
  Nanos next_deadline() const { return reading_ ? kNever : next_look_; }
  void look_now() { next_look_ = 0; }
  // Whether a look at the sender's gate that began after `since` is back.
  bool looked_since(Slot sender, Nanos since) const { return sender < looked_.size() && looked_[sender] > since; }

 private:
  static constexpr Slot kSlotsAPeriod = 4;
  void on_read(Slot first, Slot count, Nanos began, int error);

  Core& core_;
  OnGate on_gate_;
  AlignedBuffer buffer_;
  std::vector<Nanos> looked_;  // by sender: when the last look that is back began
  bool reading_ = false;
  Slot next_first_ = 0;
  Nanos next_look_ = 0;
  Nanos last_look_ = 0;
  Nanos eager_since_ = 0;
};

}  // namespace stp
