// One world in which a host dies at one chosen request of its own, and perhaps again at one of its recovery. Everything that the simulation
// asks of a world is asked of this one, too: exact prefixes, one owner a slot, nobody suffers but who died; and in the end all are back,
// talk to each other, leave, and the checker finds nothing wrong with the storage.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_process.h"
#include "tests/sim/sim_transfer.h"

namespace stp::sim {

// What the host that dies is about to do. Its requests count from there.
enum class Scenario : std::uint8_t {
  kJoin,
  kListen,
  kConnect,
  kStream,
  kClose,
  kLeave,
  kTakeOverOnKernel,   // its name's slot, from its killed predecessor on the same kernel
  kTakeOverAfterBoot,  // the same after its machine has died and come back
  kResumeSending,      // a transfer, until it is whole
  kResumeReceiving,
};
inline constexpr std::size_t kScenarios = 10;
std::string_view to_string(Scenario scenario);
std::optional<Scenario> scenario_of(std::string_view name);

struct Crash {
  enum class When : std::uint8_t { kBefore, kDuring, kAfter };  // before it is on its way, while it is, when it has completed
  std::uint32_t io = 0;  // of those that count
  When when = When::kBefore;
  SimStorage::Death death = SimStorage::Death::kMachine;
  std::vector<SimStorage::Landing> landings;  // of its writes in flight; empty: chance decides
};
// IO:WHEN:HOW. How: "process" is killed, its kernel goes on; else its machine dies, and what it writes just then lands by "chance", or a letter for each
// write in flight: l lost, t torn, w whole.
std::string to_string(const Crash& crash);
std::optional<Crash> crash_of(std::string_view text);

struct CrashCase {
  Scenario scenario = Scenario::kJoin;
  std::uint64_t seed = 1;
  std::vector<Crash> crashes;  // in the scenario, in the recovery from the first
};

struct CrashOutcome {
  std::string failure;  // empty: all good
  std::uint64_t trace = 0;
  // By life of the host that dies, while its requests counted: how many there were; and how many writes were in flight when it died.
  std::vector<std::uint32_t> requests;
  std::vector<std::size_t> writes_in_flight;
  bool resumed_in_the_middle = false;  // a transfer
};

CrashOutcome run_crash_case(const CrashCase& what, StorageMemory& memory, bool verbose);

}  // namespace stp::sim
