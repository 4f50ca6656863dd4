// The two hosts of `stp bench`, each in a process of its own: "far" serves, "near" measures on command.
//
// Lines in, lines out. far says its port, then serves until its input ends. near is told the address first, then:
//   stream SOCKETS BYTES MS   -> bytes a second that arrived, and how many; sends of BYTES for MS on SOCKETS sockets at once
//   exchanges SOCKETS SPIN_US MS -> p50 in microseconds of 64 B there and back, for each of as many sockets at once
//   connect_senders SOCKETS   -> 0
//   senders BYTES MS          -> messages a second that arrived on those, and how many they were
//   connects MS               -> p50 and p99 in microseconds of a connect and a close that waits for the other side
//   hold SOCKETS              -> 0; so many more connections stay until the end
//   roundtrip SPIN_US MS      -> p50 and p99 in microseconds of 64 B there and back, both sides with STP_OPT_SPIN_US of SPIN_US
//   silence COUNT MS          -> the COUNT times, in milliseconds, that a first byte took one way after MS of silence
//   idle MS                   -> the engine's reads a second, bytes read a second by the process, percent of the machine's CPU;
//                                with one open socket
// Failures are answered by "error" and the words of STPstrerror.
#pragma once

#include <string>

namespace stp::tools {

struct BenchRoleOptions {
  std::string role, stg, host;
  std::string agent;  // empty: embedded
};

int run_bench_role(const BenchRoleOptions& options);

}  // namespace stp::tools
