// Tells the child of a fork from the process that joined. The child has a copy of everything, and none of the threads: nothing of it
// may be used before it was taken up again (a program with an agent: runtime.h), and where that can not be, every STP call there fails with
// ENOTSUP (Reason::kForked), and its exit does not wait.
//
// The mark is a page that the kernel wipes in the child (MADV_WIPEONFORK), so that a child made by a raw clone is
// known too; where the kernel can not do that, pthread_atfork wipes it.
#pragma once

namespace stp::host {

struct ForkHandlers {
  void (*before)();
  void (*in_parent)();
  // Called once in each child: by pthread_atfork, else by the first call of forked(). Async-signal-safe.
  void (*in_child)();
};

// Marks this process as one that must not be continued in a child.
void arm_fork_guard(const ForkHandlers& handlers);

// Async-signal-safe; costs one load.
bool forked();

// In the child, which has taken everything up: it is a process like its parent from here on.
void rearm_fork_guard();
// How many forks lie between the process that joined first and this one. What belongs to one process alone, and is not known to the runtime,
// can tell by it that it is a copy.
unsigned fork_generation();

}  // namespace stp::host
