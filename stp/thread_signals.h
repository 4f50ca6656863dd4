// The signals of threads that are ours in somebody's process: the program's are for the program's threads. Those of a thread's own
// mistakes stay: a blocked SIGBUS, which tells that mapped storage is gone, would kill the process whatever its handler.
#pragma once

#include <signal.h>

namespace stp {

// While it lives, threads that are created begin with all signals blocked but those that they raise themselves.
class QuietThreads {
 public:
  QuietThreads() {
    sigset_t others;
    (void)::sigfillset(&others);
    for (const int own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) (void)::sigdelset(&others, own);
    (void)::pthread_sigmask(SIG_SETMASK, &others, &before_);
  }
  ~QuietThreads() { (void)::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  QuietThreads(const QuietThreads&) = delete;
  QuietThreads& operator=(const QuietThreads&) = delete;

 private:
  sigset_t before_;
};

}  // namespace stp
