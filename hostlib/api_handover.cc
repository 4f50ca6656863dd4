// STPgetclientid, STPgivesocket, STPtakesocket.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hostlib/call.h"
#include "hostlib/install_socket.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

ClientId from_c(const stp_clientid& id) {
  const std::size_t length = ::strnlen(id.stp_system, sizeof id.stp_system);
  return {.host = std::string(id.stp_system, length), .agent = id.stp_agent, .program = id.stp_program, .pid = id.stp_pid};
}

int join(Call& call) {
  const auto host = call.runtime().join(call.lock());
  return host ? 0 : call.fail(host.error().code, Reason::kNotJoined, fmt::format("join: {}", host.error().text));
}

int tell_client_id(Call& call, stp_clientid& out) {
  if (join(call) != 0) return -1;
  const auto id = call.host().client_id();
  if (!id) return call.fail(id.error());
  out = {};
  std::memcpy(out.stp_system, id->host.data(), std::min(id->host.size(), sizeof out.stp_system - 1));
  out.stp_agent = id->agent;
  out.stp_program = id->program;
  out.stp_pid = id->pid;
  return 0;
}

int give_socket(Call& call, const ClientId& taker) {
  Socket& socket = call.socket();
  if (!socket.unclaimed.empty()) return call.fail(EBUSY);  // connections that wait for a descriptor of this process
  const auto given = call.host().give(socket.id, call.number(), taker);
  if (!given) return call.fail(given.error());
  socket.gone = Reason::kGivenAway;
  call.waiting().ready(socket, ~Ready::kDrained);  // threads of this program that wait for it
  call.runtime().table().forget_id(std::exchange(socket.id, 0));
  return 0;
}

int take_socket(Call& call, const ClientId& giver, int descriptor) {
  if (join(call) != 0) return -1;
  // The number first: what was taken could not be given back to where it was.
  DescriptorTable& table = call.runtime().table();
  const auto fd = table.reserve(false);
  if (!fd) return call.fail(fd.error());
  const auto id = call.host().take(giver, descriptor);
  if (!id) {
    table.drop(*fd);
    return call.fail(id.error());
  }
  auto socket = std::make_shared<Socket>();
  socket->id = *id;
  if (const auto info = call.sockets().info(*id)) {
    socket->listening = info->state == ScbState::kListening;
    socket->bound_port = info->local.port;
  }
  install_socket(call.runtime(), *fd, std::move(socket));
  return *fd;
}

}  // namespace
}  // namespace stp::host

using stp::host::Call;

int STPgetclientid(struct stp_clientid* id) {
  Call call("tell the client id");
  if (!call.good()) return -1;
  return id == nullptr ? call.fail(EFAULT) : stp::host::tell_client_id(call, *id);
}

int STPgivesocket(int s, const struct stp_clientid* taker) {
  Call call("give away", s, Call::Check::kDescriptor);
  if (!call.good()) return -1;
  return taker == nullptr ? call.fail(EFAULT) : stp::host::give_socket(call, stp::host::from_c(*taker));
}

int STPtakesocket(const struct stp_clientid* giver, int givers_socket) {
  Call call("take a socket");
  if (!call.good()) return -1;
  if (giver == nullptr) return call.fail(EFAULT);
  return stp::host::take_socket(call, stp::host::from_c(*giver), givers_socket);
}
