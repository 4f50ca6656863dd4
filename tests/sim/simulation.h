// One seed from beginning to end: makes the storage, the machines and the hosts, lets troubles loose on them, and asks the checks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_process.h"

namespace stp::sim {

struct SeedResult {
  std::uint64_t seed = 0;
  std::string failure;  // empty: all good
  std::string plan;
  std::uint64_t trace = 0;
  std::uint64_t events = 0;
  SimStorage::Counters io;
  std::uint64_t connects = 0, ended_well = 0, bytes = 0;
  EngineCounters engines;  // of all of them together
};

// As `stp format` leaves it.
void format_storage(SimStorage& storage, const Superblock& superblock);

class Simulation {
 public:
  Simulation(const Plan& plan, StorageMemory& memory, bool verbose);
  ~Simulation();
  SeedResult run();

 private:
  struct Host {
    std::string name;
    MachineId machine = 0;
    SimProcess* process = nullptr;  // the latest one
    bool restart_planned = false;
  };
  SimProcess& launch(const std::string& name, MachineId machine, bool hostile);
  void start_host(std::size_t host);
  void restart_host(std::size_t host, Nanos delay);
  void watch_hosts();
  void next_trouble();
  void cause(Trouble trouble);
  void crash_process();
  void crash_machine();
  void leave();
  void stall(Nanos low, Nanos high);
  void freeze_machine();
  void suspend_process();
  void stall_machine();
  void change_view();
  void clone();
  void impostor();
  void drift_clocks();
  SimProcess* pick(bool member);
  void machine_suffers(MachineId machine, const std::string& why);

  void quiet_down();
  void probe_all();
  void tell_leases();
  void leave_all();
  void check_all_left();

  const Plan& plan_;
  SimWorld world_;
  SimStorage storage_;
  SimChecks checks_;
  SimRandom random_;
  std::vector<std::unique_ptr<SimMachine>> machines_;
  std::vector<std::unique_ptr<SimProcess>> processes_;
  std::vector<Host> hosts_;
  std::vector<SimProcess*> impostors_;
  Nanos next_stall_ = 0;
  bool active_ = true;
  bool leaving_ = false;
};

SeedResult run_seed(std::uint64_t seed, const PlanOptions& options, bool verbose, StorageMemory& memory);

}  // namespace stp::sim
