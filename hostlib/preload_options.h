// The options of an unmodified program's STP socket that a Unix socket has not, answered as TCP does.
//
// Any thread.
#pragma once

#include <sys/socket.h>

namespace stp::run {

// True when the option is answered here and not by the kernel.
bool answers_option(int level, int option);
// Whether there is such an option, of a level other than SOL_SOCKET.
bool exists(int level, int option);
int get_option(int fd, int level, int option, void* value, socklen_t* length);  // -1 with errno
// The program sets SO_LINGER to `value`: with 0 seconds the agent, who has the other end, is told that the close is a reset.
void tell_of_linger(int fd, const void* value);
// True: SO_LINGER is set to 0 seconds.
bool resets_when_closed(int fd);
// Tells of the SO_LINGER that a socket has since before it was connected.
void tell_if_resets(int fd);
// Of a listener to a conversation that it accepted.
void inherit_options(int listener, int fd);

}  // namespace stp::run
