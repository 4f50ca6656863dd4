#include "tests/sim/sim_process.h"

#include <fmt/format.h>

#include "tests/sim/sim_checks.h"
#include "tests/sim/sim_rogue.h"
#include "tests/sim/workload.h"

namespace stp::sim {
namespace {

constexpr std::uint32_t kMaxSpins = 5000;

}  // namespace

SimProcess::SimProcess(SimContext context, ProcessId id, SimMachine& machine, std::string name, bool hostile)
    : context_(context),
      id_(id),
      machine_(machine),
      name_(std::move(name)),
      hostile_(hostile),
      random_(context.world.random().next()),
      membership_random_(random_.split()),
      engine_random_(random_.split()),
      locks_(machine.locks, id) {}

SimProcess::~SimProcess() {
  if (membership_medium_) membership_medium_->die(SimStorage::Death::kProcess);
  if (engine_medium_) engine_medium_->die(SimStorage::Death::kProcess);
  engine_.reset();
  membership_.reset();
}

void SimProcess::start() {
  started_ = context_.world.now();
  membership_medium_ = std::make_unique<SimMedium>(context_.world, context_.storage, id_, machine_.id,
                                                   [this] { schedule(membership_stepper_, context_.world.now(), &SimProcess::run_membership); });
  engine_medium_ = std::make_unique<SimMedium>(context_.world, context_.storage, id_, machine_.id, [this] { wake_engine(); });
  membership_medium_->set_tap(context_.tap);
  engine_medium_->set_tap(context_.tap);
  MembershipConfig config{.superblock = context_.plan.superblock,
                          .host = name_,
                          .identity = {.boot_id = machine_.boot_id, .device = 1, .inode = 1},
                          .pid = id_};
  membership_ = std::make_unique<Membership>(config, *membership_medium_, locks_, membership_random_, board_);
  EngineConfig engine;
  engine.superblock = context_.plan.superblock;
  engine.pid = id_;
  engine.receive_budget_bytes = engine.send_budget_bytes = context_.plan.receive_budget_bytes;
  engine.window_bytes = context_.plan.window_bytes;
  engine.send_buffer_bytes = context_.plan.send_buffer_bytes;
  engine.inline_max_bytes = context_.plan.inline_max_bytes;
  engine.poll_max = context_.plan.poll_max;
  if (context_.plan.waits_in_line) engine.long_line = 0;
  if (!context_.plan.members_only && !hostile_) engine_ = std::make_unique<Engine>(engine, *engine_medium_, board_, engine_random_, *this);
  if (hostile_ && !context_.plan.members_only) rogue_ = std::make_unique<SimRogue>(context_, *this, *engine_medium_);
  workload_ = std::make_unique<Workload>(context_, *this);
  if (context_.world.verbose()) context_.world.say(fmt::format("{} starts on machine {}", label(), machine_.id));
  schedule(membership_stepper_, context_.world.now(), &SimProcess::run_membership);
  wake_engine();
  if (engine_) workload_->start();
}

std::string SimProcess::label() const { return fmt::format("{}#{}", view_.self.name.empty() ? name_ : view_.self.name, id_); }

bool SimProcess::believes_member() const {
  return alive() && view_.self.state == MemberState::kMember && board_.lease_good(local_now());
}

void SimProcess::note_suffering(std::string why) {
  if (suffering_.empty()) suffering_ = std::move(why);
}

void SimProcess::crash(SimStorage::Death death) {
  if (!alive()) return;
  if (context_.world.verbose())
    context_.world.say(fmt::format("{} {}", label(), death == SimStorage::Death::kProcess ? "is killed" : "goes down with its machine"));
  note_suffering("crashed");
  life_ = Life::kDead;
  workload_->process_gone();
  membership_medium_->die(death);
  engine_medium_->die(death);
  last_counters_ = counters();
  engine_.reset();
  membership_.reset();
  context_.world.trace(id_, 0xdead);
  if (death == SimStorage::Death::kProcess && !context_.storage.has_writes_under_way(id_)) machine_.locks.release_all(id_);
}

void SimProcess::cut_off() {
  membership_medium_->cut_off();
  engine_medium_->cut_off();
}

void SimProcess::leave() {
  if (!running()) return;
  if (context_.world.verbose()) context_.world.say(fmt::format("{} wants to leave", label()));
  note_suffering(kLeft);
  life_ = Life::kLeaving;
  leave_since_ = context_.world.now();
  workload_->finish();
  wake_engine();
}

void SimProcess::freeze() { frozen_ = true; }

void SimProcess::thaw() {
  frozen_ = false;
  clock_changed();
}

void SimProcess::clock_changed() {
  if (!alive()) return;
  schedule(membership_stepper_, context_.world.now(), &SimProcess::run_membership);
  wake_engine();
}

void SimProcess::wake_engine(Nanos delay) { schedule(engine_stepper_, context_.world.now() + delay, &SimProcess::run_engine); }

// One event at a time is on its way for a stepper; one that was overtaken finds that `due` has moved and does nothing.
void SimProcess::schedule(Stepper& stepper, Nanos at, void (SimProcess::*run)()) {
  if (!alive() || at >= stepper.due) return;
  stepper.due = at;
  context_.world.at(at, [this, &stepper, at, run] {
    if (stepper.due != at) return;
    stepper.due = kNever;
    if (alive() && !frozen_) (this->*run)();
  });
}

void SimProcess::after_step(Stepper& stepper, Nanos next, std::uint64_t io, const char* what, void (SimProcess::*run)()) {
  const Nanos now = context_.world.now();
  Nanos at = machine_.clock.when(next);
  if (at <= now) {
    stepper.spins = io == stepper.io ? stepper.spins + 1 : 0;
    if (stepper.spins > kMaxSpins) return context_.world.fail("no busy waiting", fmt::format("{} of {} asks for its next step at once, again and again", what, label()));
    at = now + 20 * kMicrosecond;
  } else {
    stepper.spins = 0;
    // A scheduler is never exact.
    if (at != kNever) at += random_.log_between(1, random_.chance(0.02) ? 10 * kMillisecond : 100 * kMicrosecond);
  }
  stepper.io = io;
  if (at != kNever) schedule(stepper, at, run);
}

void SimProcess::run_membership() {
  if (!membership_) return;
  context_.world.trace(id_, 1);
  const Nanos next = membership_->step(local_now());
  if (context_.world.failed()) return;
  take_view();
  after_step(membership_stepper_, next, membership_medium_->submitted(), "membership", &SimProcess::run_membership);
  finish_if_over();
}

void SimProcess::take_view() {
  if (board_.version() == view_.version) return;
  MembershipBoard::View before = std::move(view_);
  view_ = board_.view();
  context_.checks.view_changed(*this, before);
  wake_engine();
}

void SimProcess::run_engine() {
  if (!engine_) return run_bystander();
  context_.world.trace(id_, 2);
  const std::uint64_t quiesced = board_.quiesced_incarnation();
  const std::uint64_t rebirth = board_.rebirth_wanted();
  Nanos next = engine_->step(local_now());
  if (context_.world.failed()) return;
  if (life_ == Life::kLeaving && !board_.leave_wanted()) {
    const Nanos waited = context_.world.now() - leave_since_;
    if (!engine_shut_ && (workload_->idle() || waited > 3 * kSecond)) {
      engine_shut_ = true;
      workload_->process_gone();  // the program is over: the sockets that it still held go with the engine's end
      engine_->shut_down(local_now());
      next = local_now();
    } else if (engine_shut_ && (engine_->drained() || waited > 8 * kSecond)) {
      left_in_order_ = engine_->drained();
      board_.want_leave();
    }
    if (!board_.leave_wanted()) wake_engine(20 * kMillisecond);
  }
  if (quiesced != board_.quiesced_incarnation() || rebirth != board_.rebirth_wanted() || board_.leave_wanted())
    schedule(membership_stepper_, context_.world.now() + 50 * kMicrosecond, &SimProcess::run_membership);
  after_step(engine_stepper_, next, engine_medium_->submitted(), "engine", &SimProcess::run_engine);
  finish_if_over();
}

// In the engine's place: alive, and done at once with whatever ends.
void SimProcess::run_bystander() {
  board_.note_progress();
  const Self& self = view_.self;
  if (self.state == MemberState::kFenced || self.state == MemberState::kLeaving) board_.note_quiesced(self.identity.incarnation);
  if (life_ == Life::kLeaving) board_.want_leave();
  const Nanos pause = rogue_ ? rogue_->step() : 50 * kMillisecond;
  after_step(engine_stepper_, local_now() + pause, 0, "bystander", &SimProcess::run_engine);
}

void SimProcess::finish_if_over() {
  const MemberState state = view_.self.state;
  if (!alive() || (state != MemberState::kLeft && state != MemberState::kStopped)) return;
  if (membership_medium_->outstanding() != 0 || engine_medium_->outstanding() != 0) return;
  if (context_.world.verbose()) context_.world.say(fmt::format("{} ends", label()));
  note_suffering("ended");
  life_ = state == MemberState::kLeft ? Life::kLeft : Life::kDead;
  workload_->process_gone();
  // We are inside one of its steps: take it apart afterwards.
  context_.world.after(0, [this] {
    membership_medium_->die(SimStorage::Death::kProcess);
    engine_medium_->die(SimStorage::Death::kProcess);
    last_counters_ = counters();
    engine_.reset();
    membership_.reset();
    machine_.locks.release_all(id_);
  });
}

void SimProcess::on_ready(SocketId socket, std::uint32_t bits) { workload_->ready(socket, bits); }

}  // namespace stp::sim
