#include "hostlib/install_socket.h"

#include "hostlib/last_error.h"
#include "stp/system.h"

namespace stp::host {

void install_socket(Runtime& runtime, int fd, std::shared_ptr<Socket> socket) {
  if (auto lost = runtime.table().put(fd, std::move(socket)); lost != nullptr) {  // closed behind our back
    lost->closed = true;
    Waiting& waiting = runtime.host()->waiting();
    waiting.ready(*lost, ~Ready::kDrained);
    runtime.host()->sockets().close(lost->id, false, boottime_now());
    runtime.forget(*lost);
  }
  forget_errors(fd);
}

std::expected<int, int> install_socket(Runtime& runtime, std::shared_ptr<Socket> socket, int flags) {
  const auto fd = runtime.table().reserve((flags & SOCK_CLOEXEC) != 0);
  if (!fd) return fd;
  socket->nonblocking = (flags & SOCK_NONBLOCK) != 0;
  install_socket(runtime, *fd, std::move(socket));
  return fd;
}

}  // namespace stp::host
