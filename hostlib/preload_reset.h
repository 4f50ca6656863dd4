// Resets between two unmodified programs of one host. The Unix socket that is between them knows a reset only where something was left unread; that a program had
// set SO_LINGER to 0 seconds before it closed, it does not tell. The agent keeps a mark for as long (tools/run_aborts.h), and what reads
// as the end is taken for a reset where there is one. It is looked for by the process that accepted or connected, and its children.
//
// Any thread; errno stays what it was.
#pragma once

#include <sys/types.h>

namespace stp::run {

// Whether the end that was met at `fd` is a reset. Says so once, as TCP does: after that it is an end.
bool takes_reset(int fd);
// Whether there was nothing to read because `fd` is not connected, which a Unix socket calls EINVAL, or its end.
bool ends_alone(int fd, ssize_t got);
// The one call that touches errno: what stands there as a reset becomes the error of a connect that failed and was not asked about. Told once, as TCP does.
void tell_of_connect(int fd);
// Before shutdown(2) of `fd`, which ends its direction in good order: its close is no reset any more, where its peer is a program of this host or both directions
// end.
void ends_in_good_order(int fd, int how);
// Before it ends both directions: the end that is met from then on is its own, and no reset.
void ends_itself(int fd);

}  // namespace stp::run
