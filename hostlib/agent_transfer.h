// Moves bytes between a program's shadow and the engine, and tells the program how its conversation ended. Internal to the agent.
//
// Bulk is not copied: extents are written from the program's ring, whose room comes back when the peer has them, and read into it. That is
// where a ring lies in a huge page; elsewhere it would be a piece a page for the device, which costs a virtual disk more than a copy.
#pragma once

#include "hostlib/agent_socket.h"
#include "stp/engine.h"

namespace stp::host {

inline constexpr std::size_t kMoveAtOnce = 256 * 1024;  // bytes each way, then it is the next socket's turn

// What one direction came to.
struct Moved {
  std::size_t bytes = 0;
  bool stopped = false;   // nothing more to move now, whatever the ring says
  SocketError error;      // code 0: none
};

// What the program wrote, into the engine, unless the socket waits in line (Engine::waits_in_line()). In any case the program gets back what the
// engine does not need any more of its ring.
Moved move_out(Engine& engine, AgentSocket& socket, bool waits_in_line);
// What arrived, and the end of it, into the program's shadow.
Moved move_in(Engine& engine, AgentSocket& socket);
// In place of that where the program wants nothing more to read: what the conversation broke with, if it did, and whether the peer's end had
// come before.
SocketError look_unread(Engine& engine, AgentSocket& socket);
// The program's socket is over, and why.
void end_with(AgentSocket& socket, const SocketError& error);

}  // namespace stp::host
