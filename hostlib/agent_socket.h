// One socket of a program, as its agent has it. Internal to the agent.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/shadow.h"
#include "stp/socket_calls.h"

namespace stp::host {

struct AgentSocket {
  std::uint32_t number = 0;
  // The programs that have it: none when they are gone, have not accepted it yet, or gave it away; several after a fork.
  struct Holder {
    std::uint32_t program = 0;  // serial number
    std::uint32_t index = 0;    // on that program's news board
  };
  std::vector<Holder> holders;
  uid_t user = 0;
  SocketId engine_id = 0;    // 0: none (this side accepted a program here, and there was none to spare)
  // The side of the shadow that is not the program's: the agent's own view of the conversation.
  ShadowEnd end;
  std::uint64_t lent = 0;                // bytes that the engine has, and needs in the shadow still
  bool lands = false;                    // the engine knows the room for what arrives
  std::uint16_t port = 0;
  bool listening = false;
  std::uint32_t backlog = 0;
  bool remote_waits = false;             // a listener: the engine has connections in its queue
  bool remote_next = false;              // whose turn it is to be accepted
  std::deque<std::uint32_t> queue;       // a listener: numbers of local connections that wait
  std::uint32_t listener = 0;            // in whose queue this one waits
  bool connecting = false;
  bool connected = false;
  bool local = false;
  std::uint32_t twin = 0;                // the socket at the other end of a local conversation
  bool tell_accepted = false;
  std::string peer_host;
  std::uint16_t peer_port = 0;
  bool over = false;
  bool end_sent = false;                 // the engine was told that the program sends no more
  bool read_shut = false;
  bool end_given = false;                // the program was told that nothing more comes
  bool closing = false;                  // the program closed it
  bool engine_closed = false;
  bool drained = false;
  bool lost = false;
  bool forgotten = false;
  bool dirty = false;

  bool let_go = false;                   // by one of several holders, in good order
  std::uint32_t given_by = 0;            // it was given away last by that program,
  std::uint32_t given_as = 0;            // under that number,
  std::uint32_t given_to = 0;            // to that program (0: any of the user),
  std::uint32_t taken_by = 0;            // and taken by that one
  const Holder* holder(std::uint32_t program) const {
    for (const Holder& each : holders)
      if (each.program == program) return &each;
    return nullptr;
  }
  // Bytes in the shadow that the engine has not taken.
  std::uint64_t unmoved() const { return end.readable() - std::min<std::uint64_t>(lent, end.readable()); }
  ShadowSide& program_side() const { return end.theirs(); }
};

}  // namespace stp::host
