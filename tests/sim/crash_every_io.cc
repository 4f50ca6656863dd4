// crash-every-io: a host dies at each request of each scenario, and again in its recovery. Exit status: 0 all good, 1 a check failed, 2 wrong use.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

#include "tests/sim/crash_run.h"

namespace {

using stp::sim::Crash;
using stp::sim::CrashCase;
using stp::sim::CrashOutcome;
using stp::sim::Scenario;
using stp::sim::SimStorage;
using Landing = SimStorage::Landing;

struct Options {
  std::vector<std::string> scenarios;
  std::uint64_t seed = 1;
  bool full = false;
  unsigned jobs = 1;
};

constexpr std::size_t kAllSubsetsUpTo = 6;  // writes in flight
constexpr std::size_t kSampledSubsets = 64;

std::string name_of(const CrashCase& c) {
  std::string out = fmt::format("{} {}", stp::sim::to_string(c.scenario), c.seed);
  for (const Crash& crash : c.crashes) out += ' ' + to_string(crash);
  return out;
}

struct Totals {
  std::atomic<std::uint64_t> runs{0}, failed{0}, subsets{0}, second{0}, resumed{0};
  std::mutex printing;
};

class Explorer {
 public:
  // `part`: each draws for itself, so that it is the same runs whatever the number of jobs.
  Explorer(const Options& options, Scenario scenario, std::uint32_t part, Totals& totals, stp::sim::StorageMemory& memory)
      : options_(options),
        scenario_(scenario),
        totals_(totals),
        memory_(memory),
        random_(stp::mix64(options.seed * 1000 + static_cast<std::uint64_t>(scenario)) + part) {}

  // The requests that the scenario makes when nobody dies.
  std::uint32_t requests() {
    const CrashOutcome outcome = run({});
    return outcome.requests.empty() ? 0 : outcome.requests[0];
  }
  void die_at(std::uint32_t io) {
    for (const Crash::When when : {Crash::When::kBefore, Crash::When::kDuring, Crash::When::kAfter}) {
      // In the short run a third of these, which is another one for the next request.
      if (!options_.full && (io + options_.seed) % 3 != static_cast<std::uint32_t>(when)) continue;
      die_at(io, when);
    }
  }

 private:
  CrashOutcome run(std::vector<Crash> crashes) {
    const CrashCase what{.scenario = scenario_, .seed = options_.seed, .crashes = std::move(crashes)};
    CrashOutcome outcome = stp::sim::run_crash_case(what, memory_, false);
    ++totals_.runs;
    if (outcome.resumed_in_the_middle) ++totals_.resumed;
    if (outcome.failure.empty()) return outcome;
    ++totals_.failed;
    std::lock_guard lock(totals_.printing);
    fmt::print("FAILED {}\n    {}\n", name_of(what), outcome.failure);
    std::fflush(stdout);
    return outcome;
  }

  void die_at(std::uint32_t io, Crash::When when) {
    const CrashOutcome chance = run({{.io = io, .when = when, .death = SimStorage::Death::kMachine, .landings = {}}});
    if (chance.writes_in_flight.empty()) return;
    for (auto& landings : choices(chance.writes_in_flight[0])) {
      ++totals_.subsets;
      run({{.io = io, .when = when, .death = SimStorage::Death::kMachine, .landings = std::move(landings)}});
    }
    const Crash killed{.io = io, .when = when, .death = SimStorage::Death::kProcess, .landings = {}};
    const CrashOutcome kill = run({killed});
    die_again({.io = io, .when = when, .death = SimStorage::Death::kMachine, .landings = {}}, chance);
    die_again(killed, kill);
  }

  // Of how the writes in flight land: each subset of them, or some; and all of them torn.
  std::vector<std::vector<Landing>> choices(std::size_t writes) {
    std::vector<std::vector<Landing>> out;
    if (writes == 0) return out;
    out.emplace_back(writes, Landing::kTorn);
    const bool all = writes <= (options_.full ? kAllSubsetsUpTo : 1);
    const std::size_t count = all ? std::size_t{1} << writes : options_.full ? kSampledSubsets : 2;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t bits = all ? i : i == 0 && options_.full ? 0 : random_.next();
      out.emplace_back();
      for (std::size_t w = 0; w < writes; ++w) out.back().push_back((bits >> w & 1) != 0 ? Landing::kWhole : Landing::kLost);
    }
    return out;
  }

  // Some of the requests of the recovery.
  void die_again(const Crash& first, const CrashOutcome& recovered) {
    if (!recovered.failure.empty() || recovered.requests.size() < 2 || recovered.requests[1] == 0) return;
    const int times = options_.full ? 4 : random_.chance(0.3) ? 1 : 0;
    for (int i = 0; i < times; ++i) {
      ++totals_.second;
      run({first, {.io = static_cast<std::uint32_t>(random_.below(recovered.requests[1])),
                   .when = static_cast<Crash::When>(random_.below(3)),
                   .death = random_.chance(0.5) ? SimStorage::Death::kMachine : SimStorage::Death::kProcess,
                   .landings = {}}});
    }
  }

  const Options& options_;
  Scenario scenario_;
  Totals& totals_;
  stp::sim::StorageMemory& memory_;
  stp::Dice random_;
};

bool explore(const Options& options, Scenario scenario) {
  Totals totals;
  std::uint32_t requests = 0;
  {
    stp::sim::StorageMemory memory;
    requests = Explorer(options, scenario, 0, totals, memory).requests();
  }
  std::atomic<std::uint32_t> next{0};
  const auto work = [&] {
    stp::sim::StorageMemory memory;
    for (std::uint32_t io = next.fetch_add(1); io < requests; io = next.fetch_add(1)) Explorer(options, scenario, io, totals, memory).die_at(io);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& t : threads) t.join();
  const bool transfers = scenario == Scenario::kResumeSending || scenario == Scenario::kResumeReceiving;
  fmt::print("{}: {} requests, {} runs, {} with chosen landings, {} with a second death{}; {} failed\n", to_string(scenario), requests, totals.runs.load(),
             totals.subsets.load(), totals.second.load(), transfers ? fmt::format(", {} resumed in the middle", totals.resumed.load()) : "", totals.failed.load());
  std::fflush(stdout);
  if (requests == 0) fmt::print("{}: there is nothing at which to die\n", to_string(scenario));
  if (transfers && totals.resumed == 0) fmt::print("{}: no transfer was resumed in the middle\n", to_string(scenario));
  return totals.failed == 0 && requests > 0 && (!transfers || totals.resumed > 0);
}

// SCENARIO SEED CRASH...
std::optional<CrashCase> case_of(const std::string& line) {
  std::istringstream words(line);
  std::string scenario, crash;
  CrashCase out;
  if (!(words >> scenario >> out.seed)) return std::nullopt;
  const auto known = stp::sim::scenario_of(scenario);
  if (!known) return std::nullopt;
  out.scenario = *known;
  while (words >> crash && crash != "#") {
    const auto parsed = stp::sim::crash_of(crash);
    if (!parsed || out.crashes.size() == 2) return std::nullopt;
    out.crashes.push_back(*parsed);
  }
  return out;
}

bool run_one(const CrashCase& what, bool verbose) {
  stp::sim::StorageMemory memory;
  const CrashOutcome outcome = stp::sim::run_crash_case(what, memory, verbose);
  const CrashOutcome again = stp::sim::run_crash_case(what, memory, false);
  const bool same = outcome.trace == again.trace && outcome.failure == again.failure;
  fmt::print("{}: {}{}\n", name_of(what), outcome.failure.empty() ? "good" : "FAILED " + outcome.failure, same ? "" : "; and another time otherwise");
  return outcome.failure.empty() && same;
}

// Each line: a case, "#", why.
int run_file(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  int failed = 0;
  while (std::getline(in, line)) {
    if (line.empty() || line[0] == '#') continue;
    const auto what = case_of(line);
    if (!what) {
      fmt::print(stderr, "crash-every-io: \"{}\" is not a case\n", line);
      return 2;
    }
    if (!run_one(*what, false)) ++failed;
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"A host dies before, during and after each of its requests to the storage, with the writes that it has in flight landing in each possible way, and again in its\n"
               "recovery; what the simulation asks of every world must hold, and everybody be back within the bounds.\n"
               "Exit status: 0 all good, 1 a check failed, 2 wrong use."};
  Options options;
  std::string one, file;
  app.add_option("--scenario", options.scenarios, "join, listen, connect, stream, close, leave, take-over-on-kernel, take-over-after-boot, resume-sending, resume-receiving; default: all");
  app.add_option("--seed", options.seed, "Of the world around it")->capture_default_str();
  app.add_flag("--full", options.full, "All subsets of up to six writes, all three moments, four second deaths each; else a sample");
  app.add_option("--jobs", options.jobs, "Runs at a time")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--case", one, "One case as it is printed when it fails, told on stderr");
  app.add_option("--file", file, "Run the cases of this list")->check(CLI::ExistingFile);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (!file.empty()) return run_file(file);
  if (!one.empty()) {
    const auto what = case_of(one);
    if (!what) {
      fmt::print(stderr, "crash-every-io: \"{}\" is not a case: SCENARIO SEED IO:WHEN:HOW\n", one);
      return 2;
    }
    return run_one(*what, true) ? 0 : 1;
  }
  std::vector<Scenario> scenarios;
  for (const std::string& name : options.scenarios) {
    const auto known = stp::sim::scenario_of(name);
    if (!known) {
      fmt::print(stderr, "crash-every-io: there is no scenario \"{}\"\n", name);
      return 2;
    }
    scenarios.push_back(*known);
  }
  if (scenarios.empty())
    for (std::size_t i = 0; i < stp::sim::kScenarios; ++i) scenarios.push_back(static_cast<Scenario>(i));
  bool good = true;
  for (const Scenario scenario : scenarios) good = explore(options, scenario) && good;
  return good ? 0 : 1;
}
