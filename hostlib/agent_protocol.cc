#include "hostlib/agent_protocol.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace stp::host {
namespace {

int transfer_error(ssize_t moved, std::size_t wanted) {
  if (moved < 0) return errno;
  if (moved == 0) return EPIPE;
  return static_cast<std::size_t>(moved) == wanted ? 0 : EPROTO;
}

void collect(msghdr& message, Descriptors& descriptors) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      descriptors.add(fd);
    }
  }
}

template <class Call>
ssize_t repeat(Call call) {
  for (;;) {
    const ssize_t moved = call();
    if (moved >= 0 || errno != EINTR) return moved;
  }
}

}  // namespace

void Descriptors::clear() {
  for (const int fd : fds_)
    if (fd >= 0) (void)::close(fd);
  fds_.clear();
}

int Descriptors::take(std::size_t i) { return i < fds_.size() ? std::exchange(fds_[i], -1) : -1; }

int send_call(int fd, const AgentCall& call, int flags) {
  return transfer_error(repeat([&] { return ::send(fd, &call, sizeof call, flags | MSG_NOSIGNAL); }), sizeof call);
}

int receive_call(int fd, AgentCall& call, int flags) {
  // A request carries no descriptors: there is no room for any, so none is taken.
  return transfer_error(repeat([&] { return ::recv(fd, &call, sizeof call, flags | MSG_TRUNC); }), sizeof call);
}

int send_answer(int fd, const AgentAnswer& answer, std::span<const int> descriptors, ConstBytes tail, int flags) {
  iovec parts[2] = {{const_cast<AgentAnswer*>(&answer), sizeof answer}, {const_cast<std::byte*>(tail.data()), tail.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * Descriptors::kMost)] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = tail.empty() ? 1 : 2;
  if (!descriptors.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(c), descriptors.data(), descriptors.size_bytes());
  }
  return transfer_error(repeat([&] { return ::sendmsg(fd, &message, flags | MSG_NOSIGNAL); }), sizeof answer + tail.size());
}

int receive_answer(int fd, AgentAnswer& answer, Descriptors& descriptors, std::vector<std::byte>& tail, int flags) {
  tail.resize(kMostTail);
  iovec parts[2] = {{&answer, sizeof answer}, {tail.data(), tail.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * Descriptors::kMost)] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t moved = repeat([&] { return ::recvmsg(fd, &message, flags | MSG_CMSG_CLOEXEC); });
  if (moved < 0) return errno;
  collect(message, descriptors);
  if (moved == 0) return EPIPE;
  if ((message.msg_flags & MSG_TRUNC) != 0 || static_cast<std::size_t>(moved) < sizeof answer) return EPROTO;
  tail.resize(static_cast<std::size_t>(moved) - sizeof answer);
  if (tail.size() != answer.tail_bytes) return EPROTO;
  return (message.msg_flags & MSG_CTRUNC) != 0 ? EMFILE : 0;  // the answer is there, its descriptors found no room
}

}  // namespace stp::host
