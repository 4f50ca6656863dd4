// One step of a sequence, and sequences made from a seed. The numbers in a call are choices of small meaning, not arguments: what they
// are on either side is world.cc's business. A sequence stays one when calls are dropped from it.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace stp::differential {

inline constexpr int kSlots = 7;       // sockets of a sequence at a time
inline constexpr int kPorts = 4;       // ports that are named in it
inline constexpr int kNoPort = kPorts;
inline constexpr int kLowPort = kPorts + 1;  // one below 1024
// Slots that never hold a socket.
inline constexpr int kNegative = kSlots, kNotOpen = kSlots + 1, kOrdinaryFile = kSlots + 2;

enum class Op : std::uint8_t {
  kSocket, kBind, kListen, kConnect, kAccept, kSend, kRecv, kWritev, kReadv, kShutdown, kClose, kSockname, kPeername, kGetOption, kSetOption, kFcntl, kIoctl,
  kSelect, kPoll, kFill
};

// What is wrong with an address or a length.
enum class Fault : std::uint8_t { kNone, kShort, kFamily, kNull, kEmpty, kTooLong, kNotMine };

struct Call {
  Op op{};
  int slot = 0;
  int a = 0;
  int b = 0;
  std::uint32_t seed = 0;  // of the data that is sent
};

std::string to_string(const Call& call);

// The next `seed` of a run makes the next sequence.
std::vector<Call> make_sequence(std::uint64_t seed);

}  // namespace stp::differential
