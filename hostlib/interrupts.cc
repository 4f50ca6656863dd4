#include "hostlib/interrupts.h"

#include <signal.h>

namespace stp::host {

bool some_handler_interrupts() {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action = {};
    if (::sigaction(number, nullptr, &action) != 0) continue;
    const bool handled = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;  // shares its place with sa_sigaction
    if (handled && (action.sa_flags & SA_RESTART) == 0) return true;
  }
  return false;
}

}  // namespace stp::host
