#include "tests/sim/simulation.h"

#include <fmt/format.h>

#include <algorithm>

#include "stp/lease.h"
#include "tests/sim/workload.h"

namespace stp::sim {

void format_storage(SimStorage& storage, const Superblock& s) {
  std::vector<std::byte> block(s.geometry.block_size);
  for (Slot slot = 0; slot < s.geometry.hosts; ++slot) {
    Lease lease;
    lease.owner = {.slot = slot, .incarnation = 0, .nonce = 0};
    encode_lease(block, lease, s.uuid, s.geometry);
    storage.put(s.geometry.lease(slot), block);
  }
  for (std::uint64_t place : {std::uint64_t{0}, s.geometry.superblock_copy()}) {
    encode_superblock(block, s, place);
    storage.put(place, block);
  }
}

Simulation::Simulation(const Plan& plan, StorageMemory& memory, bool verbose)
    : plan_(plan),
      world_(plan.seed, verbose),
      storage_(world_, memory, plan.superblock.geometry.block_size, plan.superblock.geometry.total_blocks),
      checks_(world_, plan),
      random_(world_.random().split()) {
  storage_.set_watcher(&checks_);
  storage_.set_faults(plan.calm);
}

Simulation::~Simulation() {
  world_.clear();
  storage_.set_watcher(nullptr);
}

SeedResult Simulation::run() {
  world_.say(plan_.text());
  format_storage(storage_, plan_.superblock);
  const std::int64_t rho = static_cast<std::int64_t>(plan_.superblock.timing.rho_thousandths) * 1000;
  for (MachineId m = 0; m < plan_.machines; ++m)
    machines_.push_back(std::make_unique<SimMachine>(
        m, SimClock(random_.between(kSecond, 1000000 * kSecond), random_.between(1'000'000 - rho, 1'000'000 + rho)), random_));
  for (MachineId m = 0; m < plan_.machines; ++m) machines_[m]->locks.usable = random_.chance(0.8);
  const Nanos spread = random_.chance(0.4) ? 3 * kMillisecond : 2 * kSecond;  // a crowd at the door, or one by one
  for (std::uint32_t i = 0; i < plan_.hosts(); ++i) {
    Host host{.name = fmt::format("h{}", i), .machine = plan_.machine_of[i]};
    // A second program of a host carries the same name.
    for (const Host& other : hosts_)
      if (other.machine == host.machine && machines_[host.machine]->locks.usable && random_.chance(0.3)) host.name = other.name;
    hosts_.push_back(host);
    world_.at(random_.between(0, spread), [this, i] { start_host(i); });
  }
  world_.at(plan_.join, [this] {
    storage_.set_faults(plan_.faults);
    next_trouble();
  });
  world_.at(kSecond, [this] { drift_clocks(); });
  world_.at(kSecond, [this] { watch_hosts(); });
  Nanos end = plan_.join + plan_.active;
  world_.at(end, [this] { quiet_down(); });
  end += plan_.quiet;
  world_.run_until(end);
  constexpr int kMostLatecomers = 5;
  for (int i = 0; i < kMostLatecomers && !world_.failed() && checks_.somebody_just_came(); ++i) {
    end += checks_.to_be_seen();
    world_.run_until(end);
  }
  checks_.note_damaged_leases(storage_);
  if (!world_.failed()) checks_.everything_ended();
  if (!world_.failed()) checks_.everybody_sees_everybody();
  if (!world_.failed()) probe_all();
  end += plan_.probe;
  world_.run_until(end);
  for (auto& p : processes_)
    if (p->alive() && p->workload().probes_open() != 0)
      world_.fail("service once faults stop", fmt::format("{} waits for {}", p->label(), p->workload().describe_open()));
  if (world_.verbose()) tell_leases();
  if (!world_.failed()) leave_all();
  world_.run_until(end + plan_.leave);
  if (!world_.failed()) check_all_left();
  SeedResult result;
  result.seed = plan_.seed;
  result.failure = world_.failure();
  result.plan = plan_.text();
  result.trace = world_.trace_hash();
  result.events = world_.events();
  result.io = storage_.counters();
  for (auto& p : processes_) {
    result.connects += p->workload().counters().connects;
    result.ended_well += p->workload().counters().ended_well;
    result.bytes += p->workload().counters().received;
    const EngineCounters c = p->counters();
    result.engines.packets_taken += c.packets_taken;
    result.engines.packets_rewritten += c.packets_rewritten;
    result.engines.extents_taken += c.extents_taken;
    result.engines.extents_renewed += c.extents_renewed;
    result.engines.damaged_packets += c.damaged_packets;
    result.engines.damaged_gates += c.damaged_gates;
    result.engines.damaged_extents += c.damaged_extents;
    result.engines.protocol_faults += c.protocol_faults;
    result.engines.unknown_messages += c.unknown_messages;
    result.engines.io_errors += c.io_errors;
    result.engines.resets_sent += c.resets_sent;
  }
  return result;
}

SimProcess& Simulation::launch(const std::string& name, MachineId machine, bool hostile) {
  const auto id = static_cast<ProcessId>(processes_.size() + 1);
  processes_.push_back(std::make_unique<SimProcess>(SimContext{world_, storage_, plan_, checks_}, id, *machines_[machine], name, hostile));
  checks_.add(*processes_.back());
  processes_.back()->start();
  if (!active_) processes_.back()->workload().finish();
  return *processes_.back();
}

void Simulation::start_host(std::size_t index) {
  Host& host = hosts_[index];
  host.restart_planned = false;
  if (leaving_ || (host.process != nullptr && host.process->alive())) return;
  if (!machines_[host.machine]->up || machines_[host.machine]->clock.stopped()) return restart_host(index, 500 * kMillisecond);
  const bool hostile = plan_.has(Trouble::kHostile) && active_ && index + 1 == hosts_.size();
  host.process = &launch(hostile ? "rogue" : host.name, host.machine, hostile);
  if (plan_.has(Trouble::kImpostor)) host.process->expect_refusal();
}

void Simulation::restart_host(std::size_t host, Nanos delay) {
  if (hosts_[host].restart_planned) return;
  hosts_[host].restart_planned = true;
  world_.after(delay, [this, host] { start_host(host); });
}

// A supervisor that starts again what ended: at once, soon, or after a long while.
void Simulation::watch_hosts() {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    const Host& host = hosts_[i];
    if (host.process == nullptr || host.process->alive() || host.restart_planned || leaving_) continue;
    restart_host(i, active_ ? random_.log_between(kMillisecond, 8 * kSecond) : 200 * kMillisecond);
  }
  world_.after(random_.between(10 * kMillisecond, 300 * kMillisecond), [this] { watch_hosts(); });
}

SimProcess* Simulation::pick(bool member) {
  std::vector<SimProcess*> candidates;
  for (auto& p : processes_)
    if (p->running() && !p->frozen() && (!member || p->believes_member())) candidates.push_back(p.get());
  return candidates.empty() ? nullptr : candidates[random_.below(candidates.size())];
}

void Simulation::next_trouble() {
  if (!active_) return;
  std::vector<Trouble> choices;
  for (std::size_t t = 0; t < kTroubles; ++t)
    if (plan_.has(static_cast<Trouble>(t))) choices.push_back(static_cast<Trouble>(t));
  if (choices.empty()) return;
  world_.after(random_.between(plan_.trouble_every / 4, plan_.trouble_every * 2), [this, choices] {
    if (!active_) return;
    cause(choices[random_.below(choices.size())]);
    next_trouble();
  });
}

void Simulation::cause(Trouble trouble) {
  switch (trouble) {
    case Trouble::kProcessCrash: return crash_process();
    case Trouble::kMachineCrash: return crash_machine();
    case Trouble::kLeave: return leave();
    case Trouble::kStall: {
      if (world_.now() < next_stall_) return;  // one within F
      next_stall_ = world_.now() + 4 * kSecond;
      return stall(50 * kMillisecond, 1000 * kMillisecond);
    }
    case Trouble::kImpostor: return impostor();
    case Trouble::kFreeze: return freeze_machine();
    case Trouble::kSuspend: return suspend_process();
    case Trouble::kHostStall: return stall_machine();
    case Trouble::kLongStall:
      for (auto& p : processes_) p->note_suffering("long stall");
      return stall(kSecond, 8 * kSecond);
    case Trouble::kOtherView: return change_view();
    case Trouble::kClone: return clone();
    default: return;  // the storage does it by itself
  }
}

void Simulation::crash_process() {
  if (SimProcess* p = pick(false)) p->crash(SimStorage::Death::kProcess);
}

void Simulation::crash_machine() {
  SimMachine& machine = *machines_[random_.below(machines_.size())];
  if (!machine.up || machine.clock.stopped()) return;
  machine.up = false;
  if (world_.verbose()) world_.say(fmt::format("machine {} goes down", machine.id));
  for (auto& p : processes_)
    if (&p->machine() == &machine) p->crash(SimStorage::Death::kMachine);
  world_.after(random_.log_between(200 * kMillisecond, 8 * kSecond), [this, &machine] {
    if (!machine.up) machine.boot(random_);
  });
}

void Simulation::leave() {
  if (SimProcess* p = pick(true)) p->leave();
}

void Simulation::stall(Nanos low, Nanos high) {
  const Nanos length = std::min(random_.between(low, high), plan_.join + plan_.active - world_.now());
  if (world_.verbose()) world_.say(fmt::format("the storage stalls for {} ms", length / kMillisecond));
  storage_.stall(SimStorage::kEverybody, world_.now() + length);
}

void Simulation::machine_suffers(MachineId machine, const std::string& why) {
  if (world_.verbose()) world_.say(fmt::format("machine {}: {}", machine, why));
  for (auto& p : processes_)
    if (p->machine().id == machine) p->note_suffering(why);
}

void Simulation::freeze_machine() {
  SimMachine& machine = *machines_[random_.below(machines_.size())];
  if (!machine.up || machine.clock.stopped()) return;
  machine_suffers(machine.id, "frozen");
  machine.clock.stop(world_.now());
  for (auto& p : processes_)
    if (&p->machine() == &machine) p->freeze();
  world_.after(random_.log_between(100 * kMillisecond, 15 * kSecond), [this, &machine] {
    if (world_.verbose()) world_.say(fmt::format("machine {} goes on", machine.id));
    machine.clock.go_on(world_.now());
    for (auto& p : processes_)
      if (&p->machine() == &machine) p->thaw();
  });
}

void Simulation::suspend_process() {
  SimProcess* p = pick(false);
  if (p == nullptr) return;
  p->note_suffering("suspended");
  if (world_.verbose()) world_.say(fmt::format("{} is suspended", p->label()));
  p->freeze();
  world_.after(random_.log_between(50 * kMillisecond, 12 * kSecond), [p] {
    if (!p->machine().clock.stopped()) p->thaw();
  });
}

void Simulation::stall_machine() {
  const SimMachine& machine = *machines_[random_.below(machines_.size())];
  machine_suffers(machine.id, "its storage path stalls");
  storage_.stall(machine.id, std::min(world_.now() + random_.between(300 * kMillisecond, 9 * kSecond), plan_.join + plan_.active));
}

void Simulation::change_view() {
  const MachineId machine = machines_[random_.below(machines_.size())]->id;
  const auto kind = random_.chance(0.5) ? SimStorage::OtherView::kStale : SimStorage::OtherView::kOtherDisk;
  machine_suffers(machine, kind == SimStorage::OtherView::kStale ? "sees an old copy of the disk" : "sees another disk");
  storage_.see_other_view(machine, kind);
  world_.after(random_.between(500 * kMillisecond, 10 * kSecond), [this, machine] {
    if (world_.verbose()) world_.say(fmt::format("machine {} sees the disk again", machine));
    storage_.see_disk_again(machine);
  });
}

// A copy of a host, made with its memory (a virtual machine cloned or rolled back), beats on with its identity.
void Simulation::clone() {
  SimProcess* p = pick(true);
  if (p == nullptr) return;
  const Superblock& s = plan_.superblock;
  const Slot slot = p->self().identity.slot;
  DecodedLease decoded = decode_lease(storage_.look(s.geometry.lease(slot)), s.uuid, s.geometry, slot);
  if (decoded.fault != BlockFault::kNone || decoded.lease.owner != p->self().identity || decoded.lease.state != LeaseState::kOwned) return;
  const std::uint64_t kind = random_.below(3);
  if (kind == 0) ++decoded.lease.owner.incarnation;  // somebody took the slot over
  if (kind == 1) decoded.lease.owner.nonce = random_.next();
  decoded.lease.beat += static_cast<std::uint64_t>(random_.between(1, 4));
  for (std::byte& b : decoded.lease.randomness) b = static_cast<std::byte>(random_.next());
  std::vector<std::byte> block(s.geometry.block_size);
  encode_lease(block, decoded.lease, s.uuid, s.geometry);
  if (world_.verbose()) world_.say(fmt::format("a clone of {} beats (kind {})", p->label(), kind));
  checks_.clone_beats(*p);
  // It beats more than once: the first may be overwritten by a beat that is under way.
  for (int i = 0; i < 8; ++i) {
    world_.after(i * 220 * kMillisecond, [this, p, block, place = s.geometry.lease(slot), was = p->self().identity] {
      if (p->alive() && p->self().identity == was && p->self().state == MemberState::kMember) storage_.put(place, block);
    });
  }
}

void Simulation::impostor() {
  SimProcess* p = pick(true);
  if (p == nullptr || machines_.size() < 2 || impostors_.size() >= 2) return;
  SimMachine& machine = *machines_[random_.below(machines_.size())];
  if (&machine == &p->machine() || !machine.up || machine.clock.stopped()) return;
  if (world_.verbose()) world_.say(fmt::format("an impostor of {}", p->label()));
  SimProcess& impostor = launch(p->name(), machine.id, false);
  impostor.expect_refusal();
  impostors_.push_back(&impostor);
}

// Rates change, within rho of the truth.
void Simulation::drift_clocks() {
  const std::int64_t rho = static_cast<std::int64_t>(plan_.superblock.timing.rho_thousandths) * 1000;
  SimMachine& machine = *machines_[random_.below(machines_.size())];
  if (!machine.clock.stopped() && random_.chance(0.3)) {
    machine.clock.set_rate(world_.now(), random_.between(1'000'000 - rho, 1'000'000 + rho));
    for (auto& p : processes_)
      if (&p->machine() == &machine && !p->frozen()) p->clock_changed();
  }
  world_.after(random_.between(kSecond, 5 * kSecond), [this] { drift_clocks(); });
}

void Simulation::quiet_down() {
  active_ = false;
  world_.say("---- faults stop");
  storage_.set_faults(plan_.calm);
  for (auto& machine : machines_) {
    storage_.see_disk_again(machine->id);
    if (!machine->up) machine->boot(random_);
    machine->clock.go_on(world_.now());
  }
  storage_.end_stalls();
  for (SimProcess* p : impostors_) p->crash(SimStorage::Death::kProcess);
  for (auto& p : processes_)
    if (p->hostile()) p->crash(SimStorage::Death::kProcess);
  for (auto& p : processes_) {
    if (!p->alive()) continue;
    p->thaw();
    p->workload().finish();
  }
  for (std::size_t i = 0; i < hosts_.size(); ++i) world_.after(50 * kMillisecond, [this, i] { start_host(i); });
}

void Simulation::probe_all() {
  if (plan_.members_only) return;
  world_.say("---- everybody talks to everybody");
  for (auto& from : processes_) {
    if (!from->running() || from->self().state != MemberState::kMember) continue;
    for (auto& to : processes_)
      if (to->running() && to->self().state == MemberState::kMember) from->workload().probe(*to);
  }
}

// What the disk says in the end, for people.
void Simulation::tell_leases() {
  const Superblock& s = plan_.superblock;
  for (Slot slot = 0; slot < s.geometry.hosts; ++slot) {
    const DecodedLease d = decode_lease(storage_.look(s.geometry.lease(slot)), s.uuid, s.geometry, slot);
    std::string sees;
    for (const Seen& seen : d.lease.seen) sees += fmt::format(" {}:{}", seen.incarnation, seen.flags);
    world_.say(fmt::format("slot {}: {} {} \"{}\" incarnation {} beat {} sees{}", slot, to_string(d.fault), to_string(d.lease.state), d.lease.name,
                           d.lease.owner.incarnation, d.lease.beat, sees));
  }
}

void Simulation::leave_all() {
  world_.say("---- everybody leaves");
  leaving_ = true;
  for (auto& p : processes_) p->leave();
}

void Simulation::check_all_left() {
  // A lease written long ago may have landed again over the free slot: the next one to come waits it out.
  const bool leases_stay = !plan_.has(Trouble::kUndo) && !plan_.anybody_may_suffer();
  const Superblock& s = plan_.superblock;
  for (auto& p : processes_) {
    if (p->life() == SimProcess::Life::kLeaving || p->life() == SimProcess::Life::kRunning)
      return world_.fail("leaving ends", fmt::format("{} has not left", p->label()));
    if (p->life() != SimProcess::Life::kLeft || !leases_stay) continue;
    const Slot slot = p->self().identity.slot;
    if (slot == kNoSlot) continue;
    const DecodedLease lease = decode_lease(storage_.look(s.geometry.lease(slot)), s.uuid, s.geometry, slot);
    if (lease.fault != BlockFault::kNone || (lease.lease.state != LeaseState::kFree && lease.lease.owner.incarnation <= p->self().identity.incarnation))
      return world_.fail("who leaves frees his slot", fmt::format("slot {} of {}: {}", slot, p->label(), to_string(lease.fault)));
  }
}

SeedResult run_seed(std::uint64_t seed, const PlanOptions& options, bool verbose, StorageMemory& memory) {
  const Plan plan = make_plan(seed, options);
  Simulation simulation(plan, memory, verbose);
  return simulation.run();
}

}  // namespace stp::sim
