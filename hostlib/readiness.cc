#include "hostlib/readiness.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace stp::host {
namespace {

constexpr short kAlways = POLLERR | POLLHUP | POLLNVAL;

void show(PollDescriptor& descriptor, bool raised) {
  if (descriptor.raised == raised) return;
  descriptor.raised = raised;
  std::uint64_t count = 1;
  if (raised)
    (void)!::write(descriptor.fd, &count, sizeof count);
  else
    (void)!::read(descriptor.fd, &count, sizeof count);
}

}  // namespace

Socket::~Socket() {
  for (const PollDescriptor& descriptor : poll_descriptors) (void)::close(descriptor.fd);
}

short readiness(SocketCalls& sockets, const Socket& socket, Afterwards afterwards) {
  const auto bits = afterwards == Afterwards::kTell ? sockets.ready(socket.id) : sockets.ready_at_a_glance(socket.id);
  if (!bits) return POLLERR | POLLHUP;
  short events = 0;
  if ((*bits & Ready::kRead) != 0 || !socket.unclaimed.empty()) events |= POLLIN | POLLRDNORM;
  if ((*bits & Ready::kWrite) != 0) events |= POLLOUT | POLLWRNORM;
  if ((*bits & Ready::kPeerEnded) != 0) events |= POLLRDHUP;
  if ((*bits & Ready::kHangUp) != 0) events |= POLLHUP;
  if ((*bits & Ready::kError) != 0 || socket.told_later.code != 0) events |= POLLERR | POLLIN | POLLOUT;
  return events;
}

std::uint32_t bits_for(short events) {
  std::uint32_t bits = Ready::kHangUp;
  if ((events & (POLLIN | POLLRDNORM | POLLRDHUP)) != 0) bits |= Ready::kRead;
  if ((events & (POLLOUT | POLLWRNORM)) != 0) bits |= Ready::kWrite | Ready::kConnect;
  return bits;
}

int readiness_descriptor(SocketCalls& sockets, Socket& socket, short events) {
  for (const PollDescriptor& descriptor : socket.poll_descriptors)
    if (descriptor.events == events) return descriptor.fd;
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return -errno;
  socket.poll_descriptors.push_back({.fd = fd, .events = events});
  show_readiness(sockets, socket);
  return fd;
}

void show_readiness(SocketCalls& sockets, Socket& socket) {
  const auto shows = [](const PollDescriptor& descriptor, short now) { return (now & (descriptor.events | kAlways)) != 0; };
  short now = readiness(sockets, socket, Afterwards::kNothing);
  // Those that are raised come down in a call of this program, which looks again: of them nothing is to be told.
  const bool all_raised = std::ranges::all_of(socket.poll_descriptors, [&](const PollDescriptor& descriptor) { return shows(descriptor, now); });
  if (!all_raised) now = readiness(sockets, socket, Afterwards::kTell);
  for (PollDescriptor& descriptor : socket.poll_descriptors) show(descriptor, shows(descriptor, now));
}

void raise_readiness(Socket& socket, std::uint32_t bits) {
  for (PollDescriptor& descriptor : socket.poll_descriptors)
    if ((bits & bits_for(descriptor.events)) != 0) show(descriptor, true);
}

}  // namespace stp::host
