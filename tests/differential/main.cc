// Random sequences of socket calls, on STP and on TCP side by side. See --help.
#include <gtest/gtest.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/api/fixture.h"
#include "tests/differential/comparison.h"

namespace stp::differential {
namespace {

constexpr int kPatienceMs = 3000;
constexpr int kPatienceShrinkingMs = 60;

unsigned next_number = 0;

// The same with fewer calls, as long as there is a difference.
Difference shorten(Difference difference, bool by_agent) {
  Comparison comparison(by_agent, kPatienceShrinkingMs);
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
  bool once = false;
};

int compare(const Settings& settings) {
  const bool by_agent = !settings.agent.empty();
  Comparison comparison(by_agent, kPatienceMs);
  std::uint64_t found = 0, passing = 0;
  for (std::uint64_t seed = settings.seed; seed < settings.seed + settings.sequences && found < settings.differences; ++seed) {
    const auto calls = make_sequence(seed);
    auto difference = comparison.run(calls, next_number++);
    if (!difference) continue;
    // What the kernel's own threads delay for a moment is no difference: it has to be there twice.
    auto again = comparison.run(calls, next_number++);
    if (!again) {
      ++passing;
      std::printf("seed %llu: once, and not again\n%s", static_cast<unsigned long long>(seed), to_string(*difference).c_str());
      continue;
    }
    ++found;
    const Difference shortest = shorten(std::move(*again), by_agent);
    std::printf("seed %llu: STP and TCP differ\n%s", static_cast<unsigned long long>(seed), to_string(shortest).c_str());
    std::fflush(stdout);
  }
  std::printf("%llu sequences, %llu calls (%llu left out), %llu differences, %llu that passed\n", static_cast<unsigned long long>(settings.sequences),
              static_cast<unsigned long long>(comparison.calls_done()), static_cast<unsigned long long>(comparison.calls_skipped()),
              static_cast<unsigned long long>(found), static_cast<unsigned long long>(passing));
  for (std::size_t i = 0; i < kExcuses.size(); ++i)
    std::printf("  %-24s %llu times\n", kExcuses[i].data(), static_cast<unsigned long long>(comparison.uses()[i]));
  return found == 0 && !::testing::Test::HasFailure() ? 0 : 1;
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!settings.agent.empty()) {
    ::setenv("STP_TEST_AGENT", "all", 1);
    ::setenv("STP_TEST_STPD", settings.agent.c_str(), 1);
  }
  // On a machine that is busy with other things a host of the fast profile may be taken for dead.
  if (const int status = stp::test::make_storage("local"); status != 0) return status;
  stp::differential::count_signals();
  const int status = stp::differential::compare(settings);
  stp::test::remove_storage();
  return status;
}
