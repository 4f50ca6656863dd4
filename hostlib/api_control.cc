// STPfcntl, STPioctl.
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>

#include "hostlib/call.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

int capped(std::uint64_t bytes) { return static_cast<int>(std::min<std::uint64_t>(bytes, INT_MAX)); }

int control_descriptor(Call& call, int command, int argument) {
  switch (command) {
    case F_GETFL:
      return O_RDWR | (call.socket().nonblocking ? O_NONBLOCK : 0);
    case F_SETFL:
      call.socket().nonblocking = (argument & O_NONBLOCK) != 0;
      return 0;
    case F_GETFD:
    case F_SETFD: {
      const int result = ::fcntl(call.number(), command, argument);
      return result < 0 ? call.fail(errno) : result;
    }
    default:
      return call.fail(EINVAL);
  }
}

int control_socket(Call& call, unsigned long request, int* argument) {
  if (request != FIONBIO && request != FIONREAD && request != SIOCOUTQ) return call.fail(ENOTTY);
  if (request != FIONBIO && call.socket().listening) return call.fail(EINVAL);
  if (argument == nullptr) return call.fail(EFAULT);
  if (request == FIONBIO) {
    call.socket().nonblocking = *argument != 0;
    return 0;
  }
  call.waiting().step(boottime_now());
  const auto info = call.sockets().info(call.socket().id);
  if (!info) return call.fail(info.error());
  *argument = capped(request == FIONREAD ? info->readable_bytes : info->unacknowledged_bytes);
  return 0;
}

}  // namespace
}  // namespace stp::host

using stp::host::Call;

int STPfcntl(int s, int command, ...) {
  int argument = 0;
  if (command == F_SETFL || command == F_SETFD) {
    va_list arguments;
    va_start(arguments, command);
    argument = va_arg(arguments, int);
    va_end(arguments);
  }
  Call call("control", s, Call::Check::kDescriptor);
  return call.good() ? stp::host::control_descriptor(call, command, argument) : -1;
}

int STPioctl(int s, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  int* argument = va_arg(arguments, int*);
  va_end(arguments);
  Call call("control", s, Call::Check::kDescriptor);
  return call.good() ? stp::host::control_socket(call, request, argument) : -1;
}
