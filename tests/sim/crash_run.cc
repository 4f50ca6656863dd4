#include "tests/sim/crash_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

#include "stp/checker.h"
#include "tests/sim/simulation.h"
#include "tests/sim/workload.h"

namespace stp::sim {
namespace {

constexpr std::array<std::string_view, kScenarios> kNames{"join",  "listen", "connect", "stream", "close", "leave", "take-over-on-kernel", "take-over-after-boot",
                                                          "resume-sending", "resume-receiving"};
constexpr std::array<std::string_view, 3> kWhens{"before", "during", "after"};
constexpr std::string_view kLandings = "ltw";  // lost, torn, whole
constexpr MachineId kVictims = 0, kPeers = 1;
constexpr Nanos kSlice = 20 * kMillisecond;
constexpr Nanos kTail = 300 * kMillisecond;  // what is written behind, and looked at once more
constexpr Nanos kDownFor = 400 * kMillisecond;

Plan plan_of(const CrashCase& what) {
  Plan plan = make_scripted_plan(what.seed);
  plan.largest_stream = what.scenario == Scenario::kStream ? 600'000 : 20'000;
  plan.holds_open = what.scenario == Scenario::kConnect || what.scenario == Scenario::kClose;
  return plan;
}

// The storage when nobody is there any more, for the checker.
class StorageAtRest final : public BlockSource {
 public:
  StorageAtRest(SimStorage& storage, const Superblock& superblock) : storage_(storage), superblock_(superblock) {}
  const std::string& path() const override { return path_; }
  const Superblock& superblock() const override { return superblock_; }
  Result<void> read(std::uint64_t block, Bytes into) override {
    for (std::size_t at = 0; at < into.size(); at += storage_.block_size())
      std::ranges::copy(storage_.look(block++), into.begin() + static_cast<std::ptrdiff_t>(at));
    return {};
  }
  Holder holder(Slot, const Lease&) override { return Holder::kUnknown; }

 private:
  SimStorage& storage_;
  const Superblock& superblock_;
  std::string path_ = "simulated";
};

class CrashRun final : public IoTap {
 public:
  CrashRun(const CrashCase& what, StorageMemory& memory, bool verbose)
      : case_(what),
        plan_(plan_of(what)),
        world_(what.seed, verbose),
        storage_(world_, memory, plan_.superblock.geometry.block_size, plan_.superblock.geometry.total_blocks),
        checks_(world_, plan_),
        random_(world_.random().split()) {
    storage_.set_watcher(&checks_);
    storage_.set_faults(plan_.calm);
    // By a clock that is slow: the silence of the predecessor is watched, that of a claim twice as long; then the own claim is waited out, and the others
    // must see who came.
    const Timing& t = plan_.superblock.timing;
    bound_ = Nanos{3 * t.dead_ms} * kMillisecond * 1000 / (1000 - t.rho_thousandths) + checks_.to_be_seen();
  }
  ~CrashRun() override {
    world_.clear();
    storage_.set_watcher(nullptr);
  }
  CrashOutcome run();

  void starts(SimMedium& medium) override;
  void started(SimMedium& medium, std::uint64_t token) override;
  void completes(SimMedium& medium, const IoCompletion& completion) override;

 private:
  SimContext context() { return {world_, storage_, plan_, checks_, this}; }
  SimProcess& launch(const std::string& name, MachineId machine);
  void start_victim();
  void count_requests();
  void stop_counting();
  bool counts(const SimMedium& medium) const { return counting_ && victim_ != nullptr && medium.process() == victim_->id(); }
  const Crash* next_crash() const { return lives_ < case_.crashes.size() ? &case_.crashes[lives_] : nullptr; }
  void die();
  void begin();
  bool done();
  void recover();
  void transfer();
  bool transfers() const { return case_.scenario == Scenario::kResumeSending || case_.scenario == Scenario::kResumeReceiving; }
  bool until(std::string_view check, Nanos bound, const std::function<bool()>& holds);
  bool together() const;
  void listen();
  void settle();
  void probe();
  void leave();
  void check_storage_at_rest();

  const CrashCase& case_;
  const Plan plan_;
  SimWorld world_;
  SimStorage storage_;
  SimChecks checks_;
  SimRandom random_;
  Nanos bound_ = 0;
  std::vector<std::unique_ptr<SimMachine>> machines_;
  std::vector<std::unique_ptr<SimProcess>> processes_;
  std::vector<std::unique_ptr<SimTransfer>> transfers_;
  FileInTransfer file_{.id = 0xf11e, .size = 1'500'000};
  SimTransfer* sender_ = nullptr;
  SimProcess* victim_ = nullptr;  // its latest life
  SimProcess* peer_ = nullptr;
  Nanos began_ = 0;
  // Counting
  bool counting_ = false;
  bool dies_ = false;
  std::uint32_t requests_ = 0;
  std::size_t lives_ = 0;  // that ended by a crash of the case
  const SimMedium* fatal_medium_ = nullptr;  // of the request at whose completion it dies
  std::uint64_t fatal_token_ = 0;
  CrashOutcome outcome_;
};

void CrashRun::starts(SimMedium& medium) {
  if (!counts(medium) || dies_) return;
  const Crash* crash = next_crash();
  if (crash != nullptr && requests_ == crash->io && crash->when == Crash::When::kBefore) die();
}

void CrashRun::started(SimMedium& medium, std::uint64_t token) {
  if (!counts(medium) || dies_) return;
  const Crash* crash = next_crash();
  const bool fatal = crash != nullptr && requests_ == crash->io;
  ++requests_;
  if (fatal && crash->when == Crash::When::kDuring) die();
  if (fatal && crash->when == Crash::When::kAfter) {
    fatal_medium_ = &medium;
    fatal_token_ = token;
  }
}

void CrashRun::completes(SimMedium& medium, const IoCompletion& completion) {
  if (counts(medium) && !dies_ && &medium == fatal_medium_ && completion.token == fatal_token_) die();
}

// We may be inside one of its steps: it is cut off at once, and dies before anything else happens to it.
void CrashRun::die() {
  const Crash& crash = *next_crash();
  dies_ = true;
  fatal_medium_ = nullptr;
  victim_->cut_off();
  outcome_.writes_in_flight.push_back(storage_.writes_in_flight(victim_->id()));
  if (world_.verbose()) world_.say(fmt::format("---- {} dies, {} writes in flight", victim_->label(), outcome_.writes_in_flight.back()));
  world_.after(0, [this, &crash, victim = victim_] {
    storage_.choose_landings(crash.landings);
    victim->crash(crash.death);
    storage_.choose_landings({});
    if (crash.death == SimStorage::Death::kMachine) machines_[kVictims]->up = false;
  });
}

SimProcess& CrashRun::launch(const std::string& name, MachineId machine) {
  processes_.push_back(std::make_unique<SimProcess>(context(), static_cast<ProcessId>(processes_.size() + 1), *machines_[machine], name, false));
  SimProcess& process = *processes_.back();
  checks_.add(process);
  process.start();
  return process;
}

void CrashRun::start_victim() {
  if (!machines_[kVictims]->up) machines_[kVictims]->boot(random_);
  victim_ = &launch("v", kVictims);
}

void CrashRun::count_requests() {
  counting_ = true;
  dies_ = false;
  requests_ = 0;
}

void CrashRun::stop_counting() {
  counting_ = false;
  outcome_.requests.push_back(requests_);
}

bool CrashRun::together() const {
  const auto sees = [](const SimProcess& a, const SimProcess& b) {
    if (!a.running() || !b.running() || !a.believes_member() || !b.believes_member()) return false;
    const Slot slot = b.self().identity.slot;
    const Peer peer = slot < a.view().peers.size() ? a.view().peers[slot] : Peer{};
    return peer.state == PeerState::kAlive && peer.identity == b.self().identity && peer.sees_me && !peer.one_way;
  };
  return victim_ != nullptr && sees(*victim_, *peer_) && sees(*peer_, *victim_);
}

// Lets time pass until it holds, or fails the run.
bool CrashRun::until(std::string_view check, Nanos bound, const std::function<bool()>& holds) {
  const Nanos end = world_.now() + bound;
  while (!world_.failed() && !holds()) {
    if (world_.now() >= end) {
      std::string what = fmt::format("not within {} ms", bound / kMillisecond);
      for (const auto& p : processes_)
        if (p->alive()) what += fmt::format("; {}: \"{}\" {}", p->label(), p->self().why, p->engine() == nullptr ? "" : p->workload().describe_open());
      world_.fail(check, what);
      return false;
    }
    world_.run_until(world_.now() + kSlice);
  }
  return !world_.failed();
}

// Both ends at first; then the one whose program is new. The other goes on as it was.
void CrashRun::transfer() {
  if (!transfers()) return;
  const bool first = transfers_.empty();
  const bool victim_sends = case_.scenario == Scenario::kResumeSending;
  SimProcess& sender = victim_sends ? *victim_ : *peer_;
  SimProcess& receiver = victim_sends ? *peer_ : *victim_;
  if (first || !victim_sends) transfers_.emplace_back(std::make_unique<SimTransfer>(context(), receiver, file_))->receive();
  if (!first && !victim_sends) return;
  transfers_.push_back(std::make_unique<SimTransfer>(context(), sender, file_));
  sender_ = transfers_.back().get();
  sender_->send_to(receiver.name());
}

// What leads to the scenario, and its first step; requests count from there.
void CrashRun::begin() {
  peer_ = &launch("p", kPeers);
  if (!until("the scenario begins", bound_, [this] { return peer_->believes_member(); })) return;
  peer_->workload().listen();
  if (case_.scenario == Scenario::kJoin) {
    counting_ = true;  // from its very first request
    return start_victim();
  }
  start_victim();
  if (!until("the scenario begins", 2 * bound_, [this] { return together(); })) return;
  if (case_.scenario != Scenario::kListen) listen();
  if (case_.scenario == Scenario::kClose || case_.scenario == Scenario::kTakeOverOnKernel || case_.scenario == Scenario::kTakeOverAfterBoot) {
    victim_->workload().talk(peer_->name());
    const bool open = case_.scenario == Scenario::kClose;  // else in the middle of it
    world_.run_until(world_.now() + (open ? kSecond : 3 * kMillisecond));
  }
  switch (case_.scenario) {
    case Scenario::kListen: return count_requests(), victim_->workload().listen();
    case Scenario::kConnect:
    case Scenario::kStream: return count_requests(), victim_->workload().talk(peer_->name());
    case Scenario::kClose: return count_requests(), victim_->workload().finish();
    case Scenario::kLeave: return count_requests(), victim_->leave();
    case Scenario::kResumeSending:
    case Scenario::kResumeReceiving: return count_requests(), transfer();
    default: break;
  }
  const bool boot = case_.scenario == Scenario::kTakeOverAfterBoot;
  victim_->crash(boot ? SimStorage::Death::kMachine : SimStorage::Death::kProcess);
  if (boot) machines_[kVictims]->up = false;
  world_.run_until(world_.now() + (boot ? kDownFor : kMillisecond));
  count_requests();
  start_victim();
}

bool CrashRun::done() {
  switch (case_.scenario) {
    case Scenario::kListen: return world_.now() - began_ > 1500 * kMillisecond;
    case Scenario::kConnect: return world_.now() - began_ > 500 * kMillisecond;
    case Scenario::kStream:
    case Scenario::kClose: return victim_->workload().idle() && peer_->workload().idle();
    case Scenario::kLeave: return victim_->life() == SimProcess::Life::kLeft;
    case Scenario::kResumeSending:
    case Scenario::kResumeReceiving: return file_.whole && sender_->over();
    default: return together();
  }
}

// The host comes back, and is one of the group again within the bound.
void CrashRun::recover() {
  if (victim_->life() != SimProcess::Life::kLeft) {
    ++lives_;
    const bool machine_died = !machines_[kVictims]->up;
    world_.run_until(world_.now() + (machine_died ? kDownFor : random_.between(0, 5 * kMillisecond)));
  }
  if (world_.failed()) return;
  count_requests();
  start_victim();
  transfer();
  until("who died comes back", bound_, [this] { return dies_ || (together() && fatal_medium_ == nullptr); });
  stop_counting();
  if (dies_ && !world_.failed()) recover();
}

// As programs do: who has joined listens.
void CrashRun::listen() {
  victim_->workload().listen();
  world_.run_until(world_.now() + kSlice);
}

void CrashRun::settle() {
  listen();
  for (auto& p : processes_)
    if (p->alive()) p->workload().finish();
  if (transfers()) until("a transfer is resumed until it is whole", bound_, [this] { return file_.whole && sender_->over(); });
  until("all work ends", bound_, [this] {
    return std::ranges::all_of(processes_, [](const auto& p) { return !p->alive() || p->workload().describe_open().empty(); });
  });
  if (!world_.failed()) checks_.everything_ended();
  if (!world_.failed()) checks_.everybody_sees_everybody();
}

void CrashRun::probe() {
  victim_->workload().probe(*peer_);
  peer_->workload().probe(*victim_);
  until("service once faults stop", bound_, [this] { return victim_->workload().probes_open() == 0 && peer_->workload().probes_open() == 0; });
}

void CrashRun::leave() {
  victim_->leave();
  peer_->leave();
  until("leaving ends", bound_, [this] { return !victim_->alive() && !peer_->alive(); });
  // What the dead had in flight has landed by then.
  world_.run_until(world_.now() + plan_.calm.late_max);
  const Superblock& s = plan_.superblock;
  for (const SimProcess* p : {victim_, peer_}) {
    if (p->life() != SimProcess::Life::kLeft) return world_.fail("leaving ends", fmt::format("{} did not leave", p->label()));
    const DecodedLease lease = decode_lease(storage_.look(s.geometry.lease(p->self().identity.slot)), s.uuid, s.geometry, p->self().identity.slot);
    if (lease.fault != BlockFault::kNone || lease.lease.state != LeaseState::kFree)
      return world_.fail("who leaves frees his slot", fmt::format("slot {} of {}: {}", p->self().identity.slot, p->label(), to_string(lease.fault)));
  }
}

void CrashRun::check_storage_at_rest() {
  StorageAtRest at_rest(storage_, plan_.superblock);
  Nanos now = 0;
  CheckRequest request;
  request.clock = {.now = [&now] { return now; }, .sleep = [&now](Nanos time) { now += time; }};
  request.report = [this](const Finding& f) {
    if (f.severity == Finding::Severity::kFault) world_.fail("the checker finds nothing wrong", fmt::format("block {}, {} of {}: {}", f.block, f.region, f.host, f.what));
  };
  const auto summary = check_storage(at_rest, request);
  if (!summary) world_.fail("the checker finds nothing wrong", summary.error().text);
}

CrashOutcome CrashRun::run() {
  format_storage(storage_, plan_.superblock);
  const std::int64_t rho = static_cast<std::int64_t>(plan_.superblock.timing.rho_thousandths) * 1000;
  for (const MachineId m : {kVictims, kPeers})
    machines_.push_back(std::make_unique<SimMachine>(
        m, SimClock(random_.between(kSecond, 1000000 * kSecond), random_.between(1'000'000 - rho, 1'000'000 + rho)), random_));
  begin();
  began_ = world_.now();
  until("the scenario ends", bound_, [this] { return dies_ || done(); });
  if (!dies_ && !world_.failed()) world_.run_until(world_.now() + kTail);
  if (fatal_medium_ != nullptr) until("the request completes at which to die", kSecond, [this] { return dies_; });
  stop_counting();
  if (!case_.crashes.empty() && !dies_ && !world_.failed()) world_.fail("the request is there at which to die", to_string(case_.crashes[0]));
  if (!world_.failed() && (dies_ || case_.scenario == Scenario::kLeave)) recover();
  if (!world_.failed() && case_.crashes.size() != lives_) world_.fail("the request is there at which to die", to_string(case_.crashes.back()));
  if (!world_.failed()) settle();
  if (!world_.failed()) probe();
  if (!world_.failed()) leave();
  if (!world_.failed()) check_storage_at_rest();
  outcome_.failure = world_.failure();
  outcome_.trace = world_.trace_hash();
  outcome_.resumed_in_the_middle = file_.connections > 1 && file_.resumed_at > 0 && file_.resumed_at < file_.size;
  return outcome_;
}

}  // namespace

std::string_view to_string(Scenario scenario) { return kNames[static_cast<std::size_t>(scenario)]; }

std::optional<Scenario> scenario_of(std::string_view name) {
  const auto at = std::ranges::find(kNames, name);
  if (at == kNames.end()) return std::nullopt;
  return static_cast<Scenario>(at - kNames.begin());
}

std::string to_string(const Crash& crash) {
  std::string out = fmt::format("{}:{}:", crash.io, kWhens[static_cast<std::size_t>(crash.when)]);
  if (crash.death == SimStorage::Death::kProcess) return out + "process";
  if (crash.landings.empty()) return out + "chance";
  for (const auto landing : crash.landings) out += kLandings[static_cast<std::size_t>(landing)];
  return out;
}

CrashOutcome run_crash_case(const CrashCase& what, StorageMemory& memory, bool verbose) { return CrashRun(what, memory, verbose).run(); }

std::optional<Crash> crash_of(std::string_view text) {
  Crash crash;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), crash.io);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (error != std::errc{} || !text.starts_with(':')) return std::nullopt;
  text.remove_prefix(1);
  const std::size_t colon = text.find(':');
  const auto when = std::ranges::find(kWhens, text.substr(0, colon));
  if (when == kWhens.end() || colon == std::string_view::npos) return std::nullopt;
  crash.when = static_cast<Crash::When>(when - kWhens.begin());
  text.remove_prefix(colon + 1);
  if (text == "chance") return crash;
  if (text == "process") {
    crash.death = SimStorage::Death::kProcess;
    return crash;
  }
  for (const char letter : text) {
    const std::size_t landing = kLandings.find(letter);
    if (landing == std::string_view::npos) return std::nullopt;
    crash.landings.push_back(static_cast<SimStorage::Landing>(landing));
  }
  return crash;
}

}  // namespace stp::sim
