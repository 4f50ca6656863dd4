// stp-sim: runs seeds of the simulation. Exit status: 0 all good (with --plant: found), 1 a check failed (with --plant: not
// found), 2 wrong use.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>
#include <utility>
#include <unistd.h>

#include "stp/plant.h"
#include "tests/sim/simulation.h"

namespace {

using stp::sim::SeedResult;

struct Options {
  std::uint64_t first = 1, last = 100;
  stp::sim::PlanOptions plan;
  unsigned jobs = 1;
  bool verbose = false;
  bool determinism = false;
  bool keep_going = false;
  std::string plant;
};

thread_local std::uint64_t current_seed = 0;

// A crash of the core names its seed before it goes.
void name_the_seed(int signal) {
  char text[64] = "stp-sim: crashed in seed ";
  std::size_t n = 25;
  char digits[24];
  std::size_t count = 0;
  for (std::uint64_t v = current_seed; v != 0 || count == 0; v /= 10) digits[count++] = static_cast<char>('0' + v % 10);
  while (count > 0) text[n++] = digits[--count];
  text[n++] = '\n';
  (void)!write(2, text, n);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void print_result(const Options& options, const SeedResult& r) {
  if (r.failure.empty() && !options.verbose) return;
  fmt::print("seed {}: {}\n    plan: {}\n    trace {:016x}, {} events, {} reads, {} writes, {} connects, {} ended well, {} bytes; "
             "{} undone, {} late, {} lost, {} errors, {} flips, {} torn, {} misdirected\n",
             r.seed, r.failure.empty() ? "good" : "FAILED " + r.failure, r.plan, r.trace, r.events, r.io.reads, r.io.writes, r.connects, r.ended_well,
             r.bytes, r.io.undone, r.io.late, r.io.lost, r.io.errors, r.io.flips, r.io.torn, r.io.misdirected);
  std::fflush(stdout);
}

// What happened in all seeds together: a fault that never strikes tests nothing.
struct Totals {
  std::uint64_t events = 0, ended_well = 0, bytes = 0;
  stp::sim::SimStorage::Counters io;
  stp::EngineCounters engines;

  void add(const SeedResult& r) {
    events += r.events;
    ended_well += r.ended_well;
    bytes += r.bytes;
    io.undone += r.io.undone;
    io.late += r.io.late;
    io.lost += r.io.lost;
    io.errors += r.io.errors;
    io.flips += r.io.flips;
    io.torn += r.io.torn;
    io.misdirected += r.io.misdirected;
    engines.packets_taken += r.engines.packets_taken;
    engines.packets_rewritten += r.engines.packets_rewritten;
    engines.extents_taken += r.engines.extents_taken;
    engines.extents_renewed += r.engines.extents_renewed;
    engines.damaged_packets += r.engines.damaged_packets;
    engines.damaged_gates += r.engines.damaged_gates;
    engines.damaged_extents += r.engines.damaged_extents;
    engines.protocol_faults += r.engines.protocol_faults;
    engines.unknown_messages += r.engines.unknown_messages;
    engines.io_errors += r.engines.io_errors;
    engines.resets_sent += r.engines.resets_sent;
  }
  void print() const {
    fmt::print("{} events, {} streams ended well, {} MiB received\n"
               "faults: {} writes undone, {} late, {} lost, {} I/O errors, {} flipped bits, {} torn, {} misdirected\n"
               "engines: {} packets taken, {} rewritten, {} damaged; {} damaged gates; {} extents taken, {} damaged, {} renewed; {} protocol faults, "
               "{} unknown messages, {} resets\n",
               events, ended_well, bytes >> 20, io.undone, io.late, io.lost, io.errors, io.flips, io.torn, io.misdirected, engines.packets_taken,
               engines.packets_rewritten, engines.damaged_packets, engines.damaged_gates, engines.extents_taken, engines.damaged_extents,
               engines.extents_renewed, engines.protocol_faults, engines.unknown_messages, engines.resets_sent);
  }
};

// Runs all seeds; how many failed.
std::uint64_t run_all(const Options& options, bool stop_at_first) {
  std::atomic<std::uint64_t> next{options.first}, failed{0};
  Totals totals;
  std::mutex printing;
  auto work = [&] {
    stp::sim::StorageMemory memory;
    for (;;) {
      const std::uint64_t seed = next.fetch_add(1);
      if (seed > options.last || (stop_at_first && failed.load() != 0)) return;
      current_seed = seed;
      SeedResult r = stp::sim::run_seed(seed, options.plan, options.verbose, memory);
      if (!r.failure.empty() && stp::active_plant != stp::Plant::kNone) {
        // Found only if the seed is good without the plant.
        const stp::Plant plant = std::exchange(stp::active_plant, stp::Plant::kNone);
        if (!stp::sim::run_seed(seed, options.plan, false, memory).failure.empty()) r.failure.clear();
        stp::active_plant = plant;
      }
      if (options.determinism && r.failure.empty()) {
        const SeedResult again = stp::sim::run_seed(seed, options.plan, false, memory);
        if (again.trace != r.trace || again.failure != r.failure)
          r.failure = fmt::format("one seed, one trace: {:016x} and then {:016x} {}", r.trace, again.trace, again.failure);
      }
      if (!r.failure.empty()) ++failed;
      std::lock_guard lock(printing);
      totals.add(r);
      print_result(options, r);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& t : threads) t.join();
  totals.print();
  fmt::print("{} of {} seeds failed\n", failed.load(), options.last - options.first + 1);
  return failed.load();
}

// Each line: seed, "all" or "members", why. How many failed; -1 when the file is not such a list.
int run_file(const std::string& path, Options options) {
  std::ifstream in(path);
  std::string line;
  int failed = 0, lines = 0;
  while (std::getline(in, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string which;
    if (!(words >> options.first >> which) || (which != "all" && which != "members")) return -1;
    options.last = options.first;
    options.plan.members_only = which == "members";
    fmt::print("{}\n", line);
    if (run_all(options, false) != 0) ++failed;
    ++lines;
  }
  return lines == 0 ? -1 : failed;
}

bool parse_seeds(const std::string& text, Options& options) {
  char* end = nullptr;
  options.first = options.last = std::strtoull(text.c_str(), &end, 10);
  if (*end == '-') options.last = std::strtoull(end + 1, &end, 10);
  return *end == '\0' && options.first <= options.last && !text.empty();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Simulates hosts that share a disk: one seed, one world of faults.\n"
               "Exit status: 0 all good (with --plant: the planted bug was found), 1 a check failed (with --plant: it was not found), 2 wrong use."};
  Options options;
  std::string seeds = "1-100";
  std::string file;
  bool list = false;
  app.add_option("--seeds", seeds, "One seed, or the first and the last: A-B")->capture_default_str();
  app.add_option("--file", file, "Run the seeds of this list: lines of seed, \"all\" or \"members\", why")->check(CLI::ExistingFile);
  app.add_option("--plant", options.plant, "Switch this planted bug on, and expect that a check finds it");
  app.add_flag("--list-plants", list, "Print the names of the planted bugs");
  app.add_option("--hosts", options.plan.hosts, "2 to 5; else as the seed says")->check(CLI::Range(2, 5));
  app.add_flag("--members-only", options.plan.members_only, "No sockets: hosts come and go, and judge each other");
  app.add_option("--jobs", options.jobs, "Seeds to run at a time")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_flag("--check-determinism", options.determinism, "Run each seed twice and compare the traces");
  app.add_flag("--keep-going", options.keep_going, "With --plant: run all seeds, not only until it is found");
  app.add_flag("--verbose", options.verbose, "Tell the story of each seed on stderr");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (list) {
    for (const stp::PlantName& p : stp::kPlants) fmt::print("{}\n", p.name);
    return 0;
  }
  if (!parse_seeds(seeds, options)) {
    fmt::print(stderr, "stp-sim: \"{}\" is not a range of seeds: give A or A-B\n", seeds);
    return 2;
  }
  for (int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE}) std::signal(signal, name_the_seed);
  if (!file.empty()) {
    const int failed = run_file(file, options);
    if (failed < 0) fmt::print(stderr, "stp-sim: {} is not a list of seeds\n", file);
    return failed < 0 ? 2 : failed == 0 ? 0 : 1;
  }
  if (options.plant.empty()) return run_all(options, false) == 0 ? 0 : 1;
  for (const stp::PlantName& p : stp::kPlants)
    if (p.name == options.plant) stp::active_plant = p.plant;
  if (stp::active_plant == stp::Plant::kNone) {
    fmt::print(stderr, "stp-sim: unknown plant \"{}\": see --list-plants\n", options.plant);
    return 2;
  }
  options.jobs = 1;  // the plant is one for all threads, and is taken out again to confirm what was found
  const std::uint64_t found = run_all(options, !options.keep_going);
  fmt::print("plant {}: {}\n", options.plant, found != 0 ? "found" : "NOT FOUND");
  return found != 0 ? 0 : 1;
}
