#include "hostlib/preload_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "hostlib/preload_accept.h"
#include "hostlib/preload_connect.h"
#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_reset.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"

namespace stp::run {
namespace {

int give_option(const void* source, socklen_t size, void* value, socklen_t* length) {
  if (value == nullptr || length == nullptr) return no(EFAULT);
  *length = std::min(*length, size);
  std::memcpy(value, source, *length);
  return 0;
}

bool is_reset(const linger& set) { return set.l_onoff != 0 && set.l_linger == 0; }

int give_int(int number, void* value, socklen_t* length) { return give_option(&number, sizeof number, value, length); }

int tcp_option(int fd, int option, void* value, socklen_t* length) {
  constexpr int kSegment = 65483;  // what TCP has on the loopback interface
  switch (option) {
    case TCP_NODELAY: return give_int(marked(fd, Mark::kNoDelay) ? 1 : 0, value, length);
    case TCP_MAXSEG: return give_int(kSegment, value, length);
    case TCP_CONGESTION: return give_option("cubic\0\0\0\0\0\0\0\0\0\0", 16, value, length);
    case TCP_INFO: {
      tcp_info info = {};
      info.tcpi_state = TCP_ESTABLISHED;
      info.tcpi_snd_mss = info.tcpi_rcv_mss = info.tcpi_advmss = kSegment;
      info.tcpi_pmtu = kSegment;
      info.tcpi_snd_cwnd = 10;
      return give_option(&info, sizeof info, value, length);
    }
    default: return give_int(0, value, length);
  }
}

}  // namespace

bool answers_option(int level, int option) {
  if (level == IPPROTO_TCP || level == IPPROTO_IP || level == IPPROTO_IPV6) return true;
  return level == SOL_SOCKET && (option == SO_ERROR || option == SO_DOMAIN || option == SO_PROTOCOL || option == SO_REUSEPORT || option == SO_RCVLOWAT);
}

// Linux has none with a larger number, but netfilter's, which are not for these sockets.
bool exists(int level, int option) { return option >= 0 && option < (level == IPPROTO_IPV6 ? 80 : 64); }

int get_option(int fd, int level, int option, void* value, socklen_t* length) {
  if (length != nullptr && static_cast<int>(*length) < 0) return no(EINVAL);
  if (level != SOL_SOCKET && !exists(level, option)) return no(ENOPROTOOPT);
  if (level == IPPROTO_TCP) return tcp_option(fd, option, value, length);
  if (level == IPPROTO_IP && option == IP_OPTIONS) return give_option("", 0, value, length);  // there are none
  if (level == SOL_SOCKET && option == SO_REUSEPORT) {
    const auto name = name_of(fd);
    return give_int(name && name->kind == SocketName::Kind::kShared ? 1 : 0, value, length);
  }
  if (level != SOL_SOCKET) return give_int(0, value, length);
  if (option == SO_DOMAIN) return give_int(is_v6(fd) ? AF_INET6 : AF_INET, value, length);
  if (option == SO_PROTOCOL) return give_int(IPPROTO_TCP, value, length);
  if (option == SO_RCVLOWAT) return give_int(1, value, length);  // with another one a Unix socket forgets errors (preload_receive_all.h)
  const int code = marked(fd, Mark::kConnecting) ? outcome(fd) : 0;
  if (code == EALREADY) return give_int(0, value, length);
  set_mark(fd, Mark::kConnecting, false);
  if (code == 0) return takes_reset(fd) ? give_int(ECONNRESET, value, length) : real_getsockopt(fd, level, option, value, length);
  int ignored = 0;
  socklen_t size = sizeof ignored;
  (void)real_getsockopt(fd, SOL_SOCKET, SO_ERROR, &ignored, &size);  // the ECONNRESET that stands for it; who reads then meets an end, as on TCP
  return give_int(code, value, length);
}

void tell_of_linger(int fd, const void* value) {
  linger wanted = {};
  std::memcpy(&wanted, value, sizeof wanted);
  const bool resets = is_reset(wanted) && !marked(fd, Mark::kEnded);  // what the other one reads is an end already
  const auto name = resets || marked(fd, Mark::kResets) ? conversation_of(fd) : std::nullopt;
  if (!name) return;
  set_mark(fd, Mark::kResets, resets);
  RunCall call;
  RunAnswer answer;
  call.what = RunRequest::kResetWhenClosed;
  call.flags = (resets ? RunCall::kOn : 0) | (accepted(fd) ? RunCall::kAccepter : 0);
  text_of(*name).copy(call.name.data(), call.name.size() - 1);
  const std::uint32_t own = name->kind == SocketName::Kind::kConnected ? name->local.ip : name->peer.ip;
  (void)ask_run_server(storage_of(own).server, settings().user, call, answer);
}

bool resets_when_closed(int fd) {
  linger set = {};
  socklen_t length = sizeof set;
  return real_getsockopt(fd, SOL_SOCKET, SO_LINGER, &set, &length) == 0 && is_reset(set);
}

void tell_if_resets(int fd) {
  constexpr linger kReset = {.l_onoff = 1, .l_linger = 0};
  if (resets_when_closed(fd)) tell_of_linger(fd, &kReset);
}

void inherit_options(int listener, int fd) {
  copy_options(listener, fd);
  set_mark(fd, Mark::kNoDelay, marked(listener, Mark::kNoDelay));
  tell_if_resets(fd);
}

}  // namespace stp::run
