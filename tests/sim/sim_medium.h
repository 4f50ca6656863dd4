// The medium of one component (engine or membership) of a simulated process. Requests start at flush(), not before: who forgets
// it, hangs. Completions wait until they are reaped; `on_completion` tells the process that there are some.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "tests/sim/sim_storage.h"

namespace stp::sim {

class SimMedium;

// Looks at each request of a process, and may cut the process off there: SimMedium::cut_off().
class IoTap {
 public:
  virtual ~IoTap() = default;
  virtual void starts(SimMedium& medium) = 0;                                 // not yet on its way
  virtual void started(SimMedium& medium, std::uint64_t token) = 0;           // in flight
  virtual void completes(SimMedium& medium, const IoCompletion& completion) = 0;  // the process does not know yet
};

class SimMedium final : public Medium {
 public:
  SimMedium(SimWorld& world, SimStorage& storage, ProcessId process, MachineId machine, std::function<void()> on_completion)
      : world_(world), storage_(storage), process_(process), machine_(machine), on_completion_(std::move(on_completion)) {}
  ~SimMedium() override;

  std::uint32_t block_size() const override { return storage_.block_size(); }
  std::uint64_t total_blocks() const override { return storage_.total_blocks(); }
  void submit(const IoRequest& request) override;
  void flush() override;
  std::size_t reap(std::span<IoCompletion> out) override;
  void wait(Nanos deadline, Nanos spin) override;
  void wake() override {}

  void set_tap(IoTap* tap) { tap_ = tap; }
  // Nothing starts or completes any more for this process, which is about to die: it may be inside one of its steps.
  void cut_off() { cut_off_ = true; }
  // The process died: nothing of its memory is touched any more.
  void die(SimStorage::Death death);

  ProcessId process() const { return process_; }
  MachineId machine() const { return machine_; }
  bool dead() const { return dead_; }
  // Submitted and not reaped.
  std::size_t outstanding() const { return outstanding_; }
  std::uint64_t submitted() const { return submitted_; }
  void completed(const IoCompletion& completion);

 private:
  SimWorld& world_;
  SimStorage& storage_;
  ProcessId process_;
  MachineId machine_;
  std::function<void()> on_completion_;
  std::vector<IoRequest> unflushed_;
  std::deque<IoCompletion> done_;
  std::size_t outstanding_ = 0;
  std::uint64_t submitted_ = 0;
  IoTap* tap_ = nullptr;
  bool cut_off_ = false;
  bool dead_ = false;
};

}  // namespace stp::sim
