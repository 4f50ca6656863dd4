// The ports that an unmodified program holds: on which it listens on TCP and STP alike, or with several sockets (SO_REUSEPORT).
//
// The process has sockets of its own for it, out of the way of the numbers that programs count on: the port's two names (L, run_address.h), so that no other
// program gets them, and for each TCP socket one that says which it is (B). They are there as long as the program's socket is, whoever has that:
// children of fork have them, too, and so have other processes of the user that share the port (the agent gives them copies, run_protocol.h); they go when the last of the program's sockets for that port is closed in a process; and a program that is
// started in it (exec) has them if it has the program's socket. There is no moment at which another user finds them free.
//
// Any thread.
#pragma once

#include <cstdint>

#include "hostlib/run_address.h"

namespace stp::run {

// For `fd`, a TCP socket that is to be bound, or is, at that address. 0, or an errno: EADDRINUSE.
int hold_for_tcp(int fd, NetAddress where);
// Makes `fd` one of the sockets of this process that share that port of this host. 0, or an errno.
int bind_shared(int fd, NetAddress own);
// For somebody who found a port of this host taken: whether it was only the agent that had its names still, of processes that shared it, and has not any more.
bool unshare(NetAddress own);
// After close-on-exec of `fd` was set or taken away, or a copy was made of it.
void follow_close_on_exec(int fd);
// When a program begins: what it has from the one before, and the TCP sockets that it was given listening, which are to do so on both.
void take_up_held();
// Before `fd` is closed or becomes another socket. Does nothing where it holds nothing.
void let_go(int fd);

}  // namespace stp::run
