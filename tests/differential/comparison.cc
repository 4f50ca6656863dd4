#include "tests/differential/comparison.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>

namespace stp::differential {
namespace {

using Clock = std::chrono::steady_clock;

// An end that is on its way to one who has shut his direction shows nowhere: a few looks more bring it there.
constexpr int kLooks = 3;
constexpr int kUnderWayUs = 3000;

// What is sent to one who does not read shows nowhere, and is a while under way to another host: whether it comes before a close or after it is
// told differently.
bool goes_unseen(const Model& model, const Call& call) {
  const bool sends = call.op == Op::kSend || call.op == Op::kWritev || call.op == Op::kFill;
  const int peer = sends ? model.at(call.slot).peer : -1;
  return peer >= 0 && model.at(peer).read_shut;
}

// Both stand the same, at once or soon. The slot that does not, if one stays so.
std::optional<int> settle(World& ours, World& theirs, const Model& model, int patience_ms, States& our_states, States& their_states, Uses& uses) {
  int same = 0;
  for (const auto until = Clock::now() + std::chrono::milliseconds(patience_ms);;) {
    their_states = theirs.states();
    our_states = ours.states();
    std::optional<int> differs;
    for (int slot = 0; slot < kSlots; ++slot) {
      State mine = our_states[static_cast<std::size_t>(slot)], other = their_states[static_cast<std::size_t>(slot)];
      excuse(model, model.at(slot), mine, other, uses);
      if (mine != other && !differs) differs = slot;
    }
    same = differs ? 0 : same + 1;
    if (same == kLooks || (differs && Clock::now() > until)) return differs;
    if (differs) ::usleep(50);
  }
}

}  // namespace

std::optional<Difference> Comparison::run(const std::vector<Call>& calls, unsigned number) {
  const auto ours = way_.run ? make_run_world(number) : make_stp_world(number), theirs = make_tcp_world(number, way_, uses_);
  Model model(way_);
  Difference found;
  States our_states = ours->states(), their_states = theirs->states();
  const auto end = [&] {
    ours->close_all();
    theirs->close_all();
  };
  for (const Call& call : calls) {
    const Plan plan = model.plan(call, their_states);
    found.at = found.steps.size();
    found.steps.push_back({.call = call, .skipped = plan.skip || plan.excuse.has_value(), .ours = {}, .theirs = {}});
    if (plan.skip || plan.excuse) {
      ++calls_skipped_;
      if (plan.excuse) ++uses_[static_cast<std::size_t>(*plan.excuse)];
      continue;
    }
    ++calls_done_;
    Step& step = found.steps.back();
    step.theirs = theirs->perform(call, plan);
    step.ours = ours->perform(call, plan);
    if (step.ours != step.theirs && !excused(model, call, their_states, step.ours, step.theirs, uses_)) {
      end();
      return found;
    }
    if (!way_.together && goes_unseen(model, call)) ::usleep(kUnderWayUs);
    model.learn(call, plan, step.theirs, their_states);
    found.slot = settle(*ours, *theirs, model, patience_ms_, our_states, their_states, uses_);
    if (found.slot) {
      found.ours = our_states[static_cast<std::size_t>(*found.slot)];
      found.theirs = their_states[static_cast<std::size_t>(*found.slot)];
      end();
      return found;
    }
  }
  end();
  return std::nullopt;
}

std::string to_string(const Difference& difference) {
  std::string text;
  for (const Step& step : difference.steps) {
    if (step.skipped) continue;
    text += fmt::format("  {:<32} {}", to_string(step.call), to_string(step.ours));
    if (step.ours != step.theirs) text += fmt::format("   [TCP: {}]", to_string(step.theirs));
    text += '\n';
  }
  if (difference.slot)
    text += fmt::format("  then slot {} stands: STP {}, TCP {}\n", *difference.slot, to_string(difference.ours), to_string(difference.theirs));
  return text;
}

}  // namespace stp::differential
