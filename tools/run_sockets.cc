#include "tools/run_sockets.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <random>

namespace stp {

std::uint32_t random_number() {
  thread_local std::random_device device;
  return device();
}

void set_send_buffer(int fd, int bytes) {
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

bool bind_to(int fd, const run::SocketName& name) {
  const run::UnixName text = run::encode(name);
  return ::bind(fd, text.get(), text.length) == 0;
}

void refuse_descriptors(int fd) {
  constexpr int kPassRights = 83;
  const int no = 0;
  (void)::setsockopt(fd, SOL_SOCKET, kPassRights, &no, sizeof no);
}

sockaddr_stp stp_address(std::string_view host, std::uint16_t port) {
  sockaddr_stp address = {};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  host.substr(0, sizeof address.stp_system - 1).copy(address.stp_system, sizeof address.stp_system - 1);
  return address;
}

}  // namespace stp
