// Receiving with MSG_WAITALL, of the preloaded library. Where a Unix socket's error comes after a part of what was asked for, Linux gives the part and forgets the
// error: the next call says 0, and a conversation that was reset is taken for a whole one. TCP tells the error then.
//
// Any thread, and a signal handler.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

namespace stp::run {

// Whether a call with these flags is to be done by receive_all().
bool receives_all(int fd, int flags);
// As recvmsg(2).
ssize_t receive_all(int fd, msghdr* message, int flags);
ssize_t receive_all(int fd, void* into, size_t size, int flags);

}  // namespace stp::run
