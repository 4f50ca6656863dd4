// Resets between two unmodified programs of one host. The Unix socket that is between them knows a reset only where something was left unread; that a program had
// set SO_LINGER to 0 seconds before it closed, it does not tell. The agent keeps a mark for as long (tools/run_aborts.h), and what reads
// as the end is taken for a reset where there is one. It is looked for by the process that accepted or connected, and its children.
//
// Any thread; errno stays what it was.
#pragma once

namespace stp::run {

// Whether the end that was met at `fd` is a reset. Says so once, as TCP does: after that it is an end.
bool takes_reset(int fd);
// Before `fd` ends its direction in good order: its close is no reset any more, where its peer is a program of this host.
void ends_in_good_order(int fd);

}  // namespace stp::run
