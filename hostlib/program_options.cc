#include "hostlib/program_options.h"

#include "hostlib/host.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

constexpr int kLongestPollUs = 1'000'000;
constexpr int kShortestPollUs = 1000;
constexpr int kSmallestInline = 4096;
constexpr int kLargestInline = 64 * 1024;
constexpr int kLongestSpinUs = 100'000;

}  // namespace

int ProgramOptions::get(int option) const {
  if (option == STP_OPT_POLL_MAX_US) return poll_max_us_;
  return option == STP_OPT_INLINE_MAX ? inline_max_bytes_ : spin_us_;
}

bool ProgramOptions::set(int option, int value) {
  const int least = option == STP_OPT_POLL_MAX_US ? kShortestPollUs : option == STP_OPT_INLINE_MAX ? kSmallestInline : 0;
  const int most = option == STP_OPT_POLL_MAX_US ? kLongestPollUs : option == STP_OPT_INLINE_MAX ? kLargestInline : kLongestSpinUs;
  if (value < least || value > most) return false;
  (option == STP_OPT_POLL_MAX_US ? poll_max_us_ : option == STP_OPT_INLINE_MAX ? inline_max_bytes_ : spin_us_) = value;
  return true;
}

void ProgramOptions::apply(Host& host) const {
  host.sockets().set_poll_max(poll_max_us_ * kMicrosecond);
  host.sockets().set_inline_max(static_cast<std::uint32_t>(inline_max_bytes_));
  host.waiting().set_spin(spin_us_ * kMicrosecond);
}

}  // namespace stp::host
