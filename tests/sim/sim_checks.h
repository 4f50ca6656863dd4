// What must hold in every world, judged from above: true time, every process's beliefs, every byte of every stream.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_process.h"
#include "tests/sim/sim_streams.h"

namespace stp::sim {

class SimChecks final : public StorageWatcher {
 public:
  SimChecks(SimWorld& world, const Plan& plan) : world_(world), plan_(plan) {}

  void add(SimProcess& process) { processes_.push_back(&process); }
  SimProcess& process(ProcessId id) { return *processes_[id - 1]; }
  const std::vector<SimProcess*>& processes() const { return processes_; }
  Streams& streams() { return streams_; }

  // Membership of `process` posted something new; `before` is what it had posted.
  void view_changed(SimProcess& process, const MembershipBoard::View& before);
  void write_submitted(ProcessId process, std::uint64_t block, ConstBytes data) override;
  void process_quiet(ProcessId process) override;
  void block_harmed(std::uint64_t) override {}

  // An error on one's end of a stream that its other end did not ask for: fails the run unless somebody suffered.
  void stream_failed(SimProcess& mine, const Stream* stream, bool i_connected, const SocketError& error, const char* where);
  // A closed socket of `sender` was said to be drained, with nothing lost.
  void drained_well(const SimProcess& sender, const Stream& stream, bool i_connected);
  // A closed socket of `sender` was said to have lost something: not where its peer had read all of it, and left in good order since.
  void lost_something(const SimProcess& sender, const Stream& stream, bool i_connected);
  // Somebody beats with this process's identity from now on: it must stop before long.
  void clone_beats(SimProcess& process);

  // A dead host's lease that was damaged stays so until somebody repairs it: until then its slot is nobody's.
  void note_damaged_leases(SimStorage& storage);
  // At the end of the quiet stretch.
  void everything_ended();
  // After it: every member sees every other.
  void everybody_sees_everybody();
  // A program that became a member for the first time (it may have waited for the lock of a killed predecessor until now) is not seen
  // by all before to_be_seen() has passed.
  bool somebody_just_came() const;
  Nanos to_be_seen() const;

 private:
  void check_self(SimProcess& process, const MembershipBoard::View& before);
  void check_peers(SimProcess& process, const MembershipBoard::View& before);
  void check_verdict(SimProcess& judge, Slot slot, const Peer& peer);
  SimProcess* holder_of(const Identity& identity);
  bool excused(const SimProcess& a, const SimProcess& b) const;

  struct Clone {
    SimProcess* process;
    Identity identity;
    Nanos since;
  };
  void look_at_clone(std::size_t index);

  struct Memory {  // of one process about one slot
    std::uint64_t highest = 0;
    std::set<std::pair<std::uint64_t, std::uint64_t>> dead;  // incarnations and nonces that it called dead
  };
  SimWorld& world_;
  const Plan& plan_;
  std::vector<SimProcess*> processes_;
  Streams streams_;
  bool leases_damaged_ = false;
  std::map<ProcessId, Nanos> first_member_;  // when each became one
  std::vector<Clone> clones_;
  std::map<std::pair<ProcessId, Slot>, Memory> memory_;
  std::map<std::pair<Slot, std::uint64_t>, std::pair<ProcessId, std::uint64_t>> owners_;  // (slot, incarnation): who, nonce
};

}  // namespace stp::sim
