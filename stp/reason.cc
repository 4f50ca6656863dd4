#include "stp/reason.h"

namespace stp {

std::string_view describe(Reason reason) {
  switch (reason) {
    case Reason::kNone: return "no error";
    case Reason::kNoListener: return "nobody listens on that port";
    case Reason::kBacklogFull: return "the listener's queue of connections is full";
    case Reason::kNoSockets: return "all socket control blocks of the host are in use";
    case Reason::kUnknownHost: return "no host of that name has joined this storage; \"stp hosts\" lists those that have";
    case Reason::kHostDead: return "the host does not renew its lease: it is dead, cut off from the storage, or not on the same disk";
    case Reason::kHostLeft: return "the host left the group";
    case Reason::kOneWay: return "I see that host's lease and it does not see mine: the two are not on the same disk";
    case Reason::kSilent: return "the host is alive but gave no answer in time";
    case Reason::kClosed: return "the peer closed the connection before it read everything";
    case Reason::kAborted: return "the peer aborted the connection";
    case Reason::kDamaged: return "data on the storage did not verify, and writing it again did not help";
    case Reason::kProtocol: return "the peer broke the protocol";
    case Reason::kFenced: return "this host's own lease ran out: the storage stalled too long or the machine was suspended";
    case Reason::kRefused: return "the peer had called this host dead and holds to it; the host is back under a new incarnation";
    case Reason::kStopped: return "this host stopped for good: its slot on the storage is used by somebody else";
    case Reason::kStorage: return "the storage failed";
    case Reason::kForked: return "STP sockets can not be used in the child of a fork";
    case Reason::kNotJoined: return "this program has not joined a storage system; set STP_STG to its path";
    case Reason::kPortInUse: return "the port is in use on this host";
    case Reason::kNoPorts: return "no free port is left on this host";
    case Reason::kListenerClosed: return "the listener was closed before it accepted the connection";
    case Reason::kSendBufferFull: return "the send buffer is full";
    case Reason::kStuck: return "the peer host renews its lease but takes no packets";
    case Reason::kNoMemory: return "the memory budget of this host is used up";
    case Reason::kOtherStg: return "the address names another storage group than the one this program uses";
    case Reason::kNotYet: return "not supported by this version";
    case Reason::kAgentGone: return "the agent of this host ended or does not answer";
    case Reason::kNeedsAgent: return "sockets change hands only among programs that an agent serves; start stpd, or set STP_AGENT";
    case Reason::kGivenAway: return "the socket was given to another process; all that is left to do with its number is to close it";
    case Reason::kShared: return "another process shares the socket since a fork; it can be given away when that one has closed it";
    case Reason::kNoTaker: return "no program of that client id is served by this agent";
    case Reason::kNotGiven: return "no socket under that number waits to be taken by this program";
  }
  return "an error that this version does not know";
}

}  // namespace stp
