// Random sequences of socket calls, on STP and on TCP side by side. See --help.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/api/fixture.h"
#include "tests/differential/comparison.h"

namespace stp::differential {
namespace {

// Other programs of the machine have ports, and one of them may be among those that are named in a sequence. Where it is allowed, the rival has a network
// of its own. False: that one does not work.
bool take_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return true;
  ifreq loopback = {};
  std::strcpy(loopback.ifr_name, "lo");
  loopback.ifr_flags = IFF_UP;
  const int s = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool good = s >= 0 && ::ioctl(s, SIOCSIFFLAGS, &loopback) == 0;
  if (s >= 0) (void)::close(s);
  return good;
}

constexpr int kPatienceMs = 3000;
constexpr int kPatienceShrinkingMs = 60;

unsigned next_number = 0;

// The same with fewer calls, as long as there is a difference.
Difference shorten(Difference difference, Way way) {
  Comparison comparison(way, kPatienceShrinkingMs);
  std::vector<Call> calls;
  for (const Step& step : difference.steps)
    if (!step.skipped) calls.push_back(step.call);
  for (bool shorter = true; shorter;) {
    shorter = false;
    for (std::size_t i = calls.size(); i-- > 0;) {
      std::vector<Call> fewer = calls;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      auto still = comparison.run(fewer, next_number++);
      if (!still) continue;
      calls.clear();
      for (const Step& step : still->steps)
        if (!step.skipped) calls.push_back(step.call);
      difference = std::move(*still);
      shorter = true;
      i = std::min(i, calls.size());
    }
  }
  return difference;
}

struct Settings {
  std::uint64_t sequences = 1000;
  std::uint64_t seed = 1;
  std::uint64_t differences = 1;
  std::string agent;
  bool over_disk = false;
  std::string run;         // path of stp
  bool under_run = false;  // this is what it started
};

struct Tally {
  std::uint64_t sequences = 0;
  std::uint64_t differences = 0;
  std::uint64_t passing = 0;
  // What the kernel's own threads delay for a moment, or a port that it gives twice, is seen once and not again. That is rare.
  bool good() const { return differences == 0 && passing <= 2 + sequences / 1000; }
};

void report(const Tally& tally, const Comparison& comparison) {
  fmt::print("{} sequences, {} calls ({} left out), {} differences, {} seen once and not again\n", tally.sequences, comparison.calls_done(),
             comparison.calls_skipped(), tally.differences, tally.passing);
  for (std::size_t i = 0; i < kExcuses.size(); ++i) fmt::print("  {:<24} {} times\n", kExcuses[i], comparison.uses()[i]);
}

int compare(const Settings& settings) {
  const Way way{.together = !settings.agent.empty() && !settings.over_disk, .run = settings.under_run};
  Comparison comparison(way, kPatienceMs);
  Tally tally;
  for (; tally.sequences < settings.sequences && tally.differences < settings.differences; ++tally.sequences) {
    const std::uint64_t seed = settings.seed + tally.sequences;
    const auto calls = make_sequence(seed);
    const auto difference = comparison.run(calls, next_number++);
    if (!difference) continue;
    auto again = comparison.run(calls, next_number++);
    if (!again) {
      ++tally.passing;
      fmt::print("seed {}: once, and not again\n{}", seed, to_string(*difference));
      continue;
    }
    ++tally.differences;
    fmt::print("seed {}: STP and TCP differ\n{}", seed, to_string(shorten(std::move(*again), way)));
    std::fflush(stdout);
  }
  report(tally, comparison);
  return tally.good() && !::testing::Test::HasFailure() ? 0 : 1;
}

// This program once more, as one that knows nothing of STP.
int compare_under_run(const Settings& settings, char** argv) {
  std::vector<char*> arguments = {const_cast<char*>(settings.run.c_str()), const_cast<char*>("run"), const_cast<char*>("--")};
  for (; *argv != nullptr; ++argv) arguments.push_back(*argv);
  arguments.push_back(const_cast<char*>("--under-run"));
  arguments.push_back(nullptr);
  constexpr int kNoAgentYet = 3;
  int status = kNoAgentYet;
  for (int tries = 0; tries < 100 && status == kNoAgentYet; ++tries, ::usleep(200'000)) {
    const pid_t child = ::fork();
    if (child == 0) {
      (void)::execv(settings.run.c_str(), arguments.data());
      ::_exit(127);
    }
    int how = 0;
    status = child > 0 && ::waitpid(child, &how, 0) == child && WIFEXITED(how) ? WEXITSTATUS(how) : 1;
  }
  return status;
}

}  // namespace
}  // namespace stp::differential

int main(int argc, char** argv) {
  stp::differential::Settings settings;
  CLI::App app("Makes random sequences of socket calls, and does each on STP sockets and on TCP over loopback. Exit status: 0 they gave the same, 1 "
               "they differed (the shortened sequence is printed), 2 usage, 77 no place for the storage.");
  app.add_option("--sequences", settings.sequences, "so many");
  app.add_option("--seed", settings.seed, "of the first; each has the next number");
  app.add_option("--differences", settings.differences, "stop after so many");
  app.add_option("--agent", settings.agent, "path of stpd: with an agent between");
  app.add_flag("--over-disk", settings.over_disk, "the agent has the two ends share no memory: as two hosts that are served by agents");
  app.add_option("--run", settings.run, "path of stp: what is compared is an unmodified program under `stp run` (with --agent)");
  app.add_flag("--under-run", settings.under_run)->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (settings.under_run) {
    stp::differential::count_signals();
    settings.run.clear();
    return stp::differential::compare(settings);
  }
  if (!settings.agent.empty()) {
    ::setenv("STP_TEST_AGENT", "all", 1);
    ::setenv("STP_TEST_STPD", settings.agent.c_str(), 1);
    if (settings.over_disk) ::setenv("STP_TEST_AGENT_CONFIG", "local_over_disk = true", 1);
  }
  if (!stp::differential::take_own_network()) return fmt::print(stderr, "a network namespace without a loopback interface\n"), 1;
  // On a machine that is busy with other things a host of the fast profile may be taken for dead.
  if (const int status = stp::test::make_storage("local"); status != 0) return status;
  stp::differential::count_signals();
  const int status = settings.run.empty() ? stp::differential::compare(settings) : stp::differential::compare_under_run(settings, argv);
  stp::test::remove_storage();
  return status;
}
