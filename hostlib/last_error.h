// What STPerror and STPstrerror say: the last failed call of this thread, and of this thread on each socket.
// Thread-local; nothing here takes a lock.
#pragma once

#include <string>

#include "stp/reason.h"

namespace stp::host {

struct ErrorRecord {
  int code = 0;
  Reason reason = Reason::kNone;
  std::string words;  // empty: strerror(code) says all there is
};

// `s` < 0: the call had no socket.
void remember_error(int s, ErrorRecord record);
// EAGAIN and the like, which are no news: no words, nothing allocated.
void remember_quietly(int s, int code);

// The last one on `s`, or on any (s < 0); a code of 0 when there was none.
const ErrorRecord& last_error(int s);
// Words for it, the thread's until its next call.
const char* last_error_words(int s);

// A new socket got this number: what was said of its predecessor is forgotten (by this thread).
void forget_errors(int s);

}  // namespace stp::host
