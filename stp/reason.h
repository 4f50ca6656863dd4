// STP-specific reasons: what STPerror() returns, what REFUSE and RST carry, what words go with them.
// The numbers are part of the format and of the C API (STP_E... in stp.h); never renumber.
#pragma once

#include <cstdint>
#include <string_view>

namespace stp {

enum class Reason : std::uint32_t {
  kNone = 0,
  kNoListener = 1,        // nobody listens on that port
  kBacklogFull = 2,       // the listener's queue is full
  kNoSockets = 3,         // the host's SCB table is full
  kUnknownHost = 4,       // no slot carries that name
  kHostDead = 5,          // known, and dead (or not on the same disk)
  kHostLeft = 6,          // the peer host left the group cleanly
  kOneWay = 7,            // I see it, it does not see me: not on the same disk
  kSilent = 8,            // alive, but gave no answer in time
  kClosed = 9,            // the peer closed, and what was sent afterwards was dropped
  kAborted = 10,          // the peer closed with linger 0, or its program died
  kDamaged = 11,          // an extent never verified
  kProtocol = 12,         // the peer broke the protocol
  kFenced = 13,           // my own lease ran out (the storage stalled, or this machine slept)
  kRefused = 14,          // the peer called my incarnation dead
  kStopped = 15,          // this host stopped for good: see STPstrerror
  kStorage = 16,          // the storage failed
  kForked = 17,           // called in the child of a fork
  kNotJoined = 18,        // no storage given, or joining failed
  kPortInUse = 19,
  kNoPorts = 20,
  kListenerClosed = 21,
  kSendBufferFull = 22,
  kStuck = 23,            // the peer host is alive and takes no packets
  kNoMemory = 24,
  kOtherStg = 25,         // an address of another storage group
  kNotYet = 26,           // an option or call that this version does not have
  kAgentGone = 27,        // the agent of this host ended, or does not answer
  kNeedsAgent = 28,       // a call that only a program with an agent can make
  kGivenAway = 29,        // the socket was given to another process
  kShared = 30,           // a child or parent has the socket too
  kNoTaker = 31,          // the process that is to take a socket is not there
  kNotGiven = 32,         // no such socket was given to this process
};

// A sentence without a final stop; never empty.
std::string_view describe(Reason reason);

}  // namespace stp
