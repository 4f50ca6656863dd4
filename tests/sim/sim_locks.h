// The slot locks of one kernel, and how one process sees them. As with open-file-description locks, a dead process's lock is
// free only when all that it had submitted has landed.
#pragma once

#include <map>

#include "tests/sim/sim_storage.h"
#include "stp/slot_locks.h"

namespace stp::sim {

struct KernelLocks {
  std::map<Slot, ProcessId> holder;
  bool usable = true;
  void release_all(ProcessId process) {
    std::erase_if(holder, [process](const auto& entry) { return entry.second == process; });
  }
};

class SimLocks final : public SlotLocks {
 public:
  SimLocks(KernelLocks& kernel, ProcessId process) : kernel_(kernel), process_(process) {}
  bool usable() const override { return kernel_.usable; }
  bool acquire(Slot slot) override {
    if (!kernel_.usable) return false;
    return kernel_.holder.try_emplace(slot, process_).first->second == process_;
  }
  void release(Slot slot) override {
    auto at = kernel_.holder.find(slot);
    if (at != kernel_.holder.end() && at->second == process_) kernel_.holder.erase(at);
  }
  State probe(Slot slot) override {
    if (!kernel_.usable) return State::kUnknown;
    auto at = kernel_.holder.find(slot);
    return at == kernel_.holder.end() || at->second == process_ ? State::kFree : State::kHeld;
  }

 private:
  KernelLocks& kernel_;
  ProcessId process_;
};

}  // namespace stp::sim
