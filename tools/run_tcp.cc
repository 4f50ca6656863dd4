#include "tools/run_tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "hostlib/run_protocol.h"
#include "tools/kernel_sockets.h"
#include "tools/run_ports.h"

namespace stp {

using run::NetAddress;
using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr auto kTryAgain = 5ms;       // the program's queue is full, or the handshake goes on
constexpr auto kGiveUpAfter = 10s;
constexpr auto kRemember = 10s;       // who was behind a connection that has ended: its program may accept it late

sockaddr_in internet_address(NetAddress from) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(from.ip);
  address.sin_port = htons(from.port);
  return address;
}

}  // namespace

struct RunTcp::Bringing {
  SocketName entrance;
  uid_t user = 0;
  StpSocket socket;
  SocketName name;
  Done done;
  UniqueFd tcp;
  NetAddress source;
  std::uint64_t cookie = 0;  // of the program's end
  EventLoop::Clock::time_point until;
};

RunTcp::~RunTcp() { close_all(); }

void RunTcp::close_all() {
  while (!bringing_.empty()) over(std::shared_ptr(bringing_.begin()->second));
}

// Ends it; the TCP connection, if it is here still, is reset.
void RunTcp::over(const std::shared_ptr<Bringing>& one) {
  if (const auto it = bringing_.find(one->source.port); it != bringing_.end() && it->second == one) bringing_.erase(it);
  if (one->tcp) {
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    loop_.forget(one->tcp.get());
    (void)::setsockopt(one->tcp.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    one->tcp.reset();
    forget_later(one->cookie);
  }
  one->socket.reset();
  if (const Done done = std::exchange(one->done, nullptr)) done();
}

void RunTcp::bring(const SocketName& entrance, uid_t user, StpSocket socket, const SocketName& name, Done done) {
  auto one = std::make_shared<Bringing>();
  one->entrance = entrance;
  one->user = user;
  one->socket = std::move(socket);
  one->name = name;
  one->done = std::move(done);
  one->until = EventLoop::Clock::now() + kGiveUpAfter;
  one->tcp.reset(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in source = internet_address({run::kTcpSource, 0});
  socklen_t length = sizeof source;
  auto* const any = reinterpret_cast<sockaddr*>(&source);
  if (!one->tcp || ::bind(one->tcp.get(), any, length) != 0 || ::getsockname(one->tcp.get(), any, &length) != 0) return over(one);
  one->source = {run::kTcpSource, ntohs(source.sin_port)};
  if (!bringing_.emplace(one->source.port, one).second || !listens_on_tcp(entrance, user)) return over(one);
  const sockaddr_in there = internet_address(tcp_address_of(entrance));
  if (::connect(one->tcp.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0 && errno != EINPROGRESS) return over(one);
  if (!loop_.watch(one->tcp.get(), EPOLLOUT, [this, one](std::uint32_t) { connected(one); })) over(one);
}

// The kernel finds the program's end, as this one is open. Before that end is there, it finds who listens.
bool RunTcp::learn_cookie(Bringing& one) {
  if (one.cookie != 0) return true;
  const auto end = find_tcp_socket(tcp_address_of(one.entrance), one.source);
  if (!end || !end->connected) return false;
  one.cookie = end->cookie;
  behind_[one.cookie] = one.name.local;
  return true;
}

void RunTcp::connected(const std::shared_ptr<Bringing>& one) {
  if (!one->tcp) return;
  loop_.forget(one->tcp.get());
  int code = 0;
  socklen_t length = sizeof code;
  if (::getsockopt(one->tcp.get(), SOL_SOCKET, SO_ERROR, &code, &length) != 0 || code != 0) return over(one);
  if (!learn_cookie(*one)) {
    if (EventLoop::Clock::now() >= one->until) return over(one);
    return loop_.after(kTryAgain, [this, one] { connected(one); });
  }
  if (!listens_on_tcp(one->entrance, one->user)) return over(one);
  conversations_.carry_on(std::move(one->tcp), KernelSide::kTcp, std::move(one->socket), {}, one->user, one->name,
                          [this, cookie = one->cookie] { forget_later(cookie); });
  over(one);
}

void RunTcp::forget_later(std::uint64_t cookie) {
  if (cookie != 0) loop_.after(kRemember, [this, cookie] { behind_.erase(cookie); });
}

std::optional<NetAddress> RunTcp::peer_behind(std::uint16_t source_port, std::uint64_t cookie) {
  // The program may ask before the agent looked.
  if (const auto it = bringing_.find(source_port); it != bringing_.end()) (void)learn_cookie(*it->second);
  const auto it = behind_.find(cookie);
  return cookie != 0 && it != behind_.end() ? std::optional(it->second) : std::nullopt;
}

}  // namespace stp
