// A machine (a kernel: clock, locks, boot id) and a process on it: membership, engine and board, each component with a medium of its own, stepped by
// the world when a completion is there or the time has come that the last step named.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "stp/engine.h"
#include "stp/membership.h"
#include "tests/sim/sim_clock.h"
#include "tests/sim/sim_locks.h"
#include "tests/sim/sim_medium.h"
#include "tests/sim/sim_plan.h"

namespace stp::sim {

class SimChecks;
class SimRogue;
class Workload;

struct SimContext {
  SimWorld& world;
  SimStorage& storage;
  const Plan& plan;
  SimChecks& checks;
  IoTap* tap = nullptr;  // on the requests of all processes
};

struct SimMachine {
  SimMachine(MachineId number, SimClock its_clock, SimRandom& random) : id(number), clock(its_clock) { boot(random); }
  void boot(SimRandom& random) {
    for (std::byte& b : boot_id) b = static_cast<std::byte>(random.next());
    locks.holder.clear();
    up = true;
  }
  MachineId id;
  SimClock clock;
  Uuid boot_id{};
  KernelLocks locks;
  bool up = true;
};

class SimProcess final : public EngineEvents {
 public:
  enum class Life : std::uint8_t { kRunning, kLeaving, kDead, kLeft };

  SimProcess(SimContext context, ProcessId id, SimMachine& machine, std::string name, bool hostile);
  ~SimProcess() override;

  void start();
  void crash(SimStorage::Death death);
  // From within its steps: nothing of it reaches the storage any more, or comes from there; to be followed by a crash.
  void cut_off();
  // Ends all sockets, waits until everything is acknowledged, gives the slot back.
  void leave();
  // Stops its steps; the clock is the machine's affair.
  void freeze();
  void thaw();
  void clock_changed();

  ProcessId id() const { return id_; }
  const std::string& name() const { return name_; }
  SimMachine& machine() { return machine_; }
  Life life() const { return life_; }
  bool running() const { return life_ == Life::kRunning; }
  bool alive() const { return life_ == Life::kRunning || life_ == Life::kLeaving; }
  bool frozen() const { return frozen_; }
  bool hostile() const { return hostile_; }
  Nanos started() const { return started_; }
  Nanos local_now() const { return machine_.clock.local(context_.world.now()); }

  const MembershipBoard::View& view() const { return view_; }
  const Self& self() const { return view_.self; }
  // Its own belief: a member whose lease is good by its own clock.
  bool believes_member() const;
  // Something happened to it that may fail its streams or convict it: said once, remembered for ever.
  void note_suffering(std::string why);
  bool suffered() const { return !suffering_.empty(); }
  const std::string& suffering() const { return suffering_; }
  static constexpr const char* kLeft = "left";
  // Everything that it had to say was out before it left.
  bool left_in_order() const { return life_ == Life::kLeft && left_in_order_; }
  // Another host may have its name: it may be turned away.
  void expect_refusal() { may_be_refused_ = true; }
  bool may_be_refused() const { return may_be_refused_; }

  Engine* engine() { return engine_.get(); }
  Workload& workload() { return *workload_; }
  MembershipBoard& board() { return board_; }
  // Of the engine, also when it is gone.
  EngineCounters counters() const { return engine_ ? engine_->counters() : last_counters_; }
  SimRandom& random() { return random_; }
  // Something was queued: step the engine soon.
  void wake_engine(Nanos delay = 0);
  std::string label() const;

  void on_ready(SocketId socket, std::uint32_t bits) override;

 private:
  struct Stepper {
    Nanos due = kNever;         // true time of the event that is on its way
    std::uint32_t spins = 0;    // steps in a row that asked to be called at once
    std::uint64_t io = 0;
  };
  void schedule(Stepper& stepper, Nanos at, void (SimProcess::*run)());
  void run_membership();
  void run_engine();
  void run_bystander();
  void after_step(Stepper& stepper, Nanos next, std::uint64_t io, const char* what, void (SimProcess::*run)());
  void take_view();
  void finish_if_over();

  SimContext context_;
  ProcessId id_;
  SimMachine& machine_;
  std::string name_;
  bool hostile_;
  Life life_ = Life::kRunning;
  bool frozen_ = false;
  Nanos started_ = 0;
  bool engine_shut_ = false;
  bool may_be_refused_ = false;
  bool left_in_order_ = false;
  Nanos leave_since_ = 0;
  std::string suffering_;
  SimRandom random_, membership_random_, engine_random_;
  MembershipBoard board_;
  MembershipBoard::View view_;
  SimLocks locks_;
  std::unique_ptr<SimMedium> membership_medium_, engine_medium_;
  std::unique_ptr<Membership> membership_;
  std::unique_ptr<Engine> engine_;
  EngineCounters last_counters_;
  std::unique_ptr<SimRogue> rogue_;  // in the engine's place
  std::unique_ptr<Workload> workload_;
  Stepper membership_stepper_, engine_stepper_;
};

}  // namespace stp::sim
