// What poll(2) would say about a socket, and the descriptors that show it to other event loops. Under the runtime's lock.
#pragma once

#include "hostlib/socket.h"

namespace stp::host {

// The bits of poll(2), whatever was asked for, and whether on_ready is to come for what follows. Asking for that costs more than the look.
enum class Afterwards { kNothing, kTell };
short readiness(SocketCalls& sockets, const Socket& socket, Afterwards afterwards);
// The engine's bits that may change any of `events`, and those that always count.
std::uint32_t bits_for(short events);

// A descriptor that shows `events` of the socket; a negative errno when there is none to be had.
int readiness_descriptor(SocketCalls& sockets, Socket& socket, short events);
// Raises and lowers the socket's descriptors as is true now.
void show_readiness(SocketCalls& sockets, Socket& socket);
// From EngineEvents::on_ready, where the engine must not be asked: only raises.
void raise_readiness(Socket& socket, std::uint32_t bits);

}  // namespace stp::host
