// Whether a wait that a signal cut short should give EINTR, as BSD does: yes, if the handler that ran was installed without
// SA_RESTART. Which one ran is not known to us, so: if any handler of the process is without it.
#pragma once

namespace stp::host {

bool some_handler_interrupts();

}  // namespace stp::host
