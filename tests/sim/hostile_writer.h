// What a hostile member writes: blocks with good checksums, addressed exactly to a living peer, and with a meaning that is bent. It reads
// what the peer writes for it and knows the conversations that there are, so that it can behave for a while, and break the rules in
// the middle of one. Where its decisions come from is another's affair: the simulator's randomness (SimRogue), or a fuzzer's input.
#pragma once

#include <functional>
#include <vector>

#include "stp/packet.h"
#include "stp/superblock.h"

namespace stp::sim {

class Decisions {
 public:
  virtual ~Decisions() = default;
  virtual std::uint64_t below(std::uint64_t bound) = 0;
  // Mostly at or near what would make sense: that gets further.
  virtual std::uint64_t near(std::uint64_t sensible) = 0;
};

class HostileWriter {
 public:
  // Every byte that it sends as a program's is this one, but for a few where a packet is bent: whoever receives it has it from here.
  static constexpr std::byte kMark{0xee};
  using Look = std::function<ConstBytes(std::uint64_t block)>;  // at the disk

  HostileWriter(const Superblock& superblock, Decisions& decisions, Look look);
  void begin_life(const Identity& self);
  // Fills `block` and says where it is to be written.
  std::uint64_t next_block(Bytes block, const Identity& peer);

 private:
  // A conversation as it stands; offsets are those that an honest host would use next.
  struct Known {
    SessionId id;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t allowed = 0;  // the peer's credit
  };
  struct Pair {
    Identity peer;
    std::uint64_t next = 1;   // the sequence of my next packet
    std::uint64_t taken = 0;  // of the peer's
    std::vector<Known> known;
  };
  bool one_in(std::uint64_t bound) { return decisions_.below(bound) == 1 % bound; }
  Pair& pair_with(const Identity& peer);
  void read_ring(Pair& pair);
  void note(Pair& pair, const Message& message);
  Known& some_session(Pair& pair);
  void add_message(Pair& pair, PacketBuilder& packet);
  std::uint64_t make_packet(Pair& pair, Bytes block);
  std::uint64_t make_gate(Pair& pair, Bytes block);
  std::uint64_t make_extent(Bytes block);
  std::uint64_t make_noise(const Identity& peer, Bytes block);

  const Superblock& superblock_;
  const Geometry& g_;
  Decisions& decisions_;
  const Look look_;
  Identity self_;
  std::vector<Pair> pairs_;  // by slot
  std::uint64_t next_session_ = 1;
  std::uint64_t gates_ = 0;
  std::vector<std::byte> data_;  // of kMark
};

}  // namespace stp::sim
