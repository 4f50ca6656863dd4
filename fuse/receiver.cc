#include "fuse/receiver.h"

#include <poll.h>
#include <unistd.h>

#include <limits>

namespace stp::view {

ssize_t Receiver::read(int device, void* room, std::size_t size) {
  pollfd look = {.fd = device, .events = POLLIN, .revents = 0};
  (void)spin_.run(std::numeric_limits<Nanos>::max(), kLongestSpin, [&] { return ::poll(&look, 1, 0) != 0; });
  return ::read(device, room, size);
}

}  // namespace stp::view
