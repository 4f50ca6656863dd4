// What the players say to each other. All of one build on one machine: plain structs go over the wire.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace turns {

enum class Kind : std::uint64_t { kPasses = 1, kStream = 2 };

// The first of every connection.
struct Greeting {
  std::array<char, 8> magic = {'t', 'u', 'r', 'n', 's', ' ', '1', '\n'};
  Kind kind = Kind::kPasses;
  std::array<char, 64> host = {};  // who connects
  std::uint64_t life = 0;
  // Of a stream. `number` is never the same again in one life of a host.
  std::uint64_t number = 0;
  std::uint64_t length = 0;
  std::uint64_t seed = 0;
  std::uint64_t ending = 0;
  std::uint64_t by_files = 0;  // 1: it is written into a file of a mount, which the kernel closes for a program that is killed

  bool good() const { return magic == Greeting().magic && host.back() == 0; }
  std::string from() const { return host.data(); }
};

// How a stream ends: by a close that waits, by an end of the stream that the receiver confirms, or by a reset somewhere before `length`.
enum class StreamEnding : std::uint64_t { kClose, kConfirmed, kAbort };

// One turn of one who keeps a log: which value was taken by whom, and a hash of everything before.
struct Entry {
  std::uint64_t value = 0;
  std::uint64_t place = 0;  // in the ring
  std::uint64_t life = 0;
  std::uint64_t chain = 0;
};

// A token on its way: the neighbour is to take the value after this one.
struct Pass {
  std::array<char, 8> magic = {'p', 'a', 's', 's', ' ', '1', ' ', '\n'};
  std::uint64_t token = 0;
  std::uint64_t value = 0;
  std::uint64_t attempt = 0;   // counted for each value
  std::uint64_t in_row = 0;    // counted in each connection
  std::uint64_t entries = 0;   // that many Entry follow
  std::uint64_t ballast = 0;   // and that many bytes of the stream that follows from token and value
};

struct Taken {
  std::array<char, 8> magic = {'t', 'a', 'k', 'e', 'n', ' ', '1', '\n'};
  std::uint64_t token = 0;
  std::uint64_t value = 0;
  std::uint64_t attempt = 0;
};

}  // namespace turns
