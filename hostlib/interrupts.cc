#include "hostlib/interrupts.h"

#include <signal.h>

namespace stp::host {

namespace {

// Signals of a program's own mistakes: their handlers report a crash, and end no wait.
bool of_a_crash(int number) {
  return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL || number == SIGTRAP || number == SIGABRT ||
         number == SIGSYS;
}

}  // namespace

bool some_handler_interrupts() {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action = {};
    if (of_a_crash(number) || ::sigaction(number, nullptr, &action) != 0) continue;
    const bool handled = action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;  // shares its place with sa_sigaction
    if (handled && (action.sa_flags & SA_RESTART) == 0) return true;
  }
  return false;
}

}  // namespace stp::host
