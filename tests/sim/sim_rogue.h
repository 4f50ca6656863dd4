// A hostile member: it holds its lease as it should, and writes nonsense with good checksums into its rings, gates, extents and
// tables, addressed exactly to the others; now and then noise over other hosts' blocks. Nothing of it may crash anybody, reach
// a program as somebody else's bytes, or outlast it.
#pragma once

#include <vector>

#include "stp/packet.h"
#include "tests/sim/sim_process.h"

namespace stp::sim {

class SimRogue {
 public:
  SimRogue(SimContext context, SimProcess& process, SimMedium& medium);
  // Takes its completions, writes something. Returns when it wants to write again, in true time from now.
  Nanos step();

 private:
  void write_something();
  void make_packet(Bytes block, const Peer& peer);
  void make_gate(Bytes block, const Peer& peer);
  void add_message(PacketBuilder& packet);
  std::uint64_t wild(std::uint64_t sensible);

  SimContext context_;
  SimProcess& process_;
  SimMedium& medium_;
  SimRandom random_;
  AlignedBuffer buffer_;
  bool busy_ = false;
  Identity was_;
  std::uint64_t place_ = 0;
  std::vector<std::uint64_t> sequences_;  // by peer: the packet that comes next
  std::vector<std::byte> data_;
};

}  // namespace stp::sim
