#include "tools/kernel_sockets.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <charconv>
#include <cstring>
#include <fstream>

#include "hostlib/unique_fd.h"

namespace stp {
namespace {

// Sends one request of sock_diag, and calls `each` for every answer until it says false or there are no more. False: it failed.
template <typename Request, typename Each>
bool ask_kernel(const Request& request, std::uint16_t flags, Each each) {
  struct {
    nlmsghdr head;
    Request body;
  } message = {};
  message.head.nlmsg_len = sizeof message;
  message.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.head.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  message.body = request;
  const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) return false;
  if (::send(fd.get(), &message, sizeof message, 0) != static_cast<ssize_t>(sizeof message)) return false;
  alignas(nlmsghdr) char buffer[32768];
  while (true) {
    sockaddr_nl from = {};
    socklen_t length = sizeof from;
    const ssize_t n = ::recvfrom(fd.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (n <= 0) return false;
    if (from.nl_pid != 0) continue;  // not the kernel: anybody may write to a netlink socket that has the right
    const auto count = static_cast<std::size_t>(n);
    for (std::size_t at = 0; at + sizeof(nlmsghdr) <= count;) {
      const auto& one = *reinterpret_cast<const nlmsghdr*>(buffer + at);
      if (one.nlmsg_type == NLMSG_DONE) return true;
      if (one.nlmsg_type == NLMSG_ERROR || one.nlmsg_len < sizeof one || one.nlmsg_len > count - at) return false;
      if (!each(one)) return true;
      at += NLMSG_ALIGN(one.nlmsg_len);
    }
  }
}

bool list_by_diag(std::string_view beginning, std::vector<UnixSocketFacts>& sockets) {
  unix_diag_req request = {};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = 1u << TCP_LISTEN | 1u << TCP_CLOSE;
  request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID;
  return ask_kernel(request, NLM_F_DUMP, [&](const nlmsghdr& one) {
    const auto* const facts = static_cast<const unix_diag_msg*>(NLMSG_DATA(&one));
    if (one.nlmsg_len < NLMSG_LENGTH(sizeof *facts) || facts->udiag_type != SOCK_STREAM) return true;
    UnixSocketFacts socket{.name = {}, .inode = facts->udiag_ino, .listens = facts->udiag_state == TCP_LISTEN, .user = {}};
    int left = static_cast<int>(one.nlmsg_len - NLMSG_LENGTH(sizeof *facts));
    for (const auto* piece = reinterpret_cast<const rtattr*>(facts + 1); RTA_OK(piece, left); piece = RTA_NEXT(piece, left)) {
      const auto* const bytes = static_cast<const char*>(RTA_DATA(piece));
      const std::size_t size = RTA_PAYLOAD(piece);
      if (piece->rta_type == UNIX_DIAG_NAME && size > 1 && bytes[0] == 0) socket.name.assign(bytes + 1, size - 1);
      uid_t user = 0;
      if (piece->rta_type != UNIX_DIAG_UID || size != sizeof user) continue;
      std::memcpy(&user, bytes, sizeof user);
      socket.user = user;
    }
    if (socket.name.starts_with(beginning)) sockets.push_back(std::move(socket));
    return true;
  });
}

// Where the kernel has no diagnostics. Whose the sockets are is not said there.
bool list_by_file(std::string_view beginning, std::vector<UnixSocketFacts>& sockets) {
  constexpr std::string_view kListening = " 00010000 ", kStream = " 0001 ", kUnconnected = " 01 ";
  const std::string mark = " @" + std::string(beginning);
  std::ifstream list("/proc/net/unix");
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find(mark);
    if (at == std::string::npos) continue;
    const std::string_view columns = std::string_view(line).substr(0, at);
    const std::string_view numbers = columns.substr(std::min(columns.find(' ') + 1, columns.size()));  // behind the address
    if (numbers.find(kStream) == numbers.npos || columns.find(kUnconnected) == columns.npos) continue;
    UnixSocketFacts socket{.name = line.substr(at + 2), .inode = 0, .listens = numbers.find(kListening) != numbers.npos, .user = {}};
    const std::string_view inode = columns.substr(columns.rfind(' ') + 1);
    if (std::from_chars(inode.data(), inode.data() + inode.size(), socket.inode).ec == std::errc()) sockets.push_back(std::move(socket));
  }
  return list.eof();
}

}  // namespace

bool list_unix_sockets(std::string_view beginning, std::vector<UnixSocketFacts>& sockets) {
  if (list_by_diag(beginning, sockets)) return true;
  sockets.clear();
  return list_by_file(beginning, sockets);
}

std::optional<TcpSocketFacts> find_tcp_socket(run::NetAddress local, run::NetAddress remote) {
  inet_diag_req_v2 request = {};
  request.sdiag_family = AF_INET;
  request.sdiag_protocol = IPPROTO_TCP;
  request.idiag_states = ~0u;
  request.id.idiag_sport = htons(local.port);
  request.id.idiag_dport = htons(remote.port);
  request.id.idiag_src[0] = htonl(local.ip);
  request.id.idiag_dst[0] = htonl(remote.ip);
  request.id.idiag_cookie[0] = request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  std::optional<TcpSocketFacts> found;
  (void)ask_kernel(request, 0, [&](const nlmsghdr& one) {
    const auto* const facts = static_cast<const inet_diag_msg*>(NLMSG_DATA(&one));
    if (one.nlmsg_len < NLMSG_LENGTH(sizeof *facts)) return false;
    constexpr unsigned kConnected = 1u << TCP_ESTABLISHED | 1u << TCP_CLOSE_WAIT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING;
    found = TcpSocketFacts{.listens = facts->idiag_state == TCP_LISTEN,
                           .connected = (kConnected >> facts->idiag_state & 1) != 0,
                           .inode = facts->idiag_inode,
                           .user = facts->idiag_uid,
                           .cookie = std::uint64_t{facts->id.idiag_cookie[1]} << 32 | facts->id.idiag_cookie[0],
                           .device = facts->id.idiag_if};
    return false;
  });
  return found;
}

}  // namespace stp
