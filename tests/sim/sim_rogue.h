// A hostile member: it holds its lease as it should, and writes what HostileWriter makes into its rings, gates, extents and tables. Nothing
// of it may crash anybody, reach a program as somebody else's bytes, or outlast it.
#pragma once

#include "tests/sim/hostile_writer.h"
#include "tests/sim/sim_process.h"

namespace stp::sim {

class SimRogue {
 public:
  SimRogue(SimContext context, SimProcess& process, SimMedium& medium);
  // Takes its completions, writes something. Returns when it wants to write again, in true time from now.
  Nanos step();

 private:
  class RandomDecisions final : public Decisions {
   public:
    explicit RandomDecisions(SimRandom random) : random_(random) {}
    std::uint64_t below(std::uint64_t bound) override { return random_.below(bound); }
    std::uint64_t near(std::uint64_t sensible) override;

   private:
    SimRandom random_;
  };
  void write_something();

  SimContext context_;
  SimProcess& process_;
  SimMedium& medium_;
  SimRandom random_;
  RandomDecisions decisions_;
  HostileWriter writer_;
  AlignedBuffer buffer_;
  bool busy_ = false;
  Identity was_;
};

}  // namespace stp::sim
