// The STP options that hold for the whole program. Settable before joining; applied when it has joined. Under the runtime's lock.
#pragma once

namespace stp::host {

class Host;

class ProgramOptions {
 public:
  // `option` is one of STP_OPT_POLL_MAX_US, STP_OPT_INLINE_MAX, STP_OPT_SPIN_US.
  int get(int option) const;
  bool set(int option, int value);  // false: out of bounds
  void apply(Host& host) const;

 private:
  int poll_max_us_ = 12'000;
  int inline_max_bytes_ = 16 * 1024;
  int spin_us_ = 200;
};

}  // namespace stp::host
