// Tells the child of a fork from the process that joined. The child has a copy of everything, and none of the threads:
// nothing of it may be used, so every STP call there fails with ENOTSUP (Reason::kForked), and its exit does not wait.
//
// The mark is a page that the kernel wipes in the child (MADV_WIPEONFORK), so that a child made by a raw clone is
// known too; where the kernel can not do that, pthread_atfork wipes it.
#pragma once

namespace stp::host {

// Marks this process as one that must not be continued in a child. `in_child` is called once in each child: by
// pthread_atfork, else by the first call of forked(). It must be async-signal-safe.
void arm_fork_guard(void (*in_child)());

// Async-signal-safe; costs one load.
bool forked();

}  // namespace stp::host
