#include "tools/run_listeners.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "tools/run_sockets.h"

namespace stp {

using run::NetAddress;
using run::RunCall;
using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr auto kLookAgain = 1s;
constexpr auto kTryAgain = 5ms;      // a listener whose queue is full
constexpr auto kGiveUpAfter = 10s;
constexpr auto kRest = 100ms;        // when there is no room for one more descriptor
constexpr auto kRemember = 60s;      // who was behind a TCP connection that is over: its program may accept it late
constexpr int kAdoptedBacklog = 128;
constexpr int kMostBacklog = 4096;

sockaddr_in internet_address(std::uint32_t ip, std::uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(ip);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

// Of one port.
struct RunListeners::Listener {
  StpSocket socket;
  int readable = -1;
  std::uint16_t port = 0;
  uid_t user = 0;
  bool user_known = true;              // false: adopted, from an agent before this one
  std::set<Entrance> entrances;
  std::set<Entrance> missed;           // that were not found at the last look
  std::optional<std::uint32_t> tcp;    // where the program listens on TCP itself
  bool tcp_missed = false;
  std::size_t turn = 0;
  bool full = false;                   // one waits for room in the program's queue: the others wait behind it
  bool empty() const { return entrances.empty() && !tcp; }
};

// From another host, and not in the program's queue yet.
struct RunListeners::Arriving {
  std::shared_ptr<Listener> listener;
  StpSocket socket;
  SocketName name;
  EventLoop::Clock::time_point until;
};

RunListeners::~RunListeners() { close_all(); }

void RunListeners::close_all() {
  while (!listeners_.empty()) close(listeners_.begin()->first);
}

// -- What there is -------------------------------------------------------------------------------------------------

int RunListeners::listen(const RunCall& call, uid_t user) {
  if (call.port == 0) return EINVAL;
  if (call.port < kFirstFreePort && user != 0) return EACCES;
  const Entrance mine{.v6 = (call.flags & RunCall::kV6) != 0, .share = call.own_port};
  const bool tcp = (call.flags & RunCall::kOverTcp) != 0;
  // Whoever has a name has it alone: an entrance of that name that is known already was replaced. But the names of one port are free to
  // take for several, who may not all be meant.
  const auto taken = [&](Listener& there) {
    there.entrances.erase(mine);
    const bool others_user = there.user_known && there.user != user && !there.empty();
    const bool exclusive = std::ranges::any_of(there.entrances, [&](const Entrance& e) { return e.v6 == mine.v6 && (e.share == 0 || mine.share == 0); });
    return others_user || (tcp ? !there.entrances.empty() : exclusive || there.tcp);
  };
  auto found = listeners_.find(call.port);
  if (found != listeners_.end() && taken(*found->second)) {
    look();  // may have found that it is gone
    found = listeners_.find(call.port);
    if (found != listeners_.end() && taken(*found->second)) return EADDRINUSE;
  }
  std::shared_ptr<Listener> listener;
  if (found != listeners_.end())
    listener = found->second;
  else if (const int code = open(call.port, call.backlog, listener); code != 0)
    return code;
  listener->user = user;
  listener->user_known = true;
  if (tcp) {
    listener->tcp = call.ip == INADDR_ANY ? INADDR_LOOPBACK : call.ip;
    listener->tcp_missed = false;
  } else {
    listener->entrances.insert(mine);
    listener->missed.erase(mine);
  }
  return 0;
}

int RunListeners::open(std::uint16_t port, int backlog, std::shared_ptr<Listener>& opened) {
  auto listener = std::make_shared<Listener>();
  listener->port = port;
  listener->socket.reset(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int socket = listener->socket.get();
  const sockaddr_stp address = stp_address("", port);
  const bool good = socket >= 0 && STPbind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                    STPlisten(socket, std::clamp(backlog, 1, kMostBacklog)) == 0 && (listener->readable = STPgetpollfd(socket, POLLIN)) >= 0 &&
                    loop_.watch(listener->readable, EPOLLIN, [this, weak = std::weak_ptr(listener)](std::uint32_t) {
                      if (const auto one = weak.lock()) accept(one);
                    });
  if (!good) return errno;
  listeners_[port] = opened = listener;
  look_again_later();
  return 0;
}

void RunListeners::close(std::uint16_t port) {
  const auto it = listeners_.find(port);
  if (it == listeners_.end()) return;
  const std::shared_ptr<Listener> listener = it->second;
  listeners_.erase(it);
  loop_.forget(listener->readable);
  listener->socket.reset();
}

void RunListeners::look_again_later() {
  if (!std::exchange(looks_later_, true)) loop_.after(kLookAgain, [this] {
    looks_later_ = false;
    look();
    if (!listeners_.empty()) look_again_later();
  });
}

std::map<std::uint16_t, RunListeners::Found> RunListeners::read_names(const RunHosts& hosts, bool& complete) {
  constexpr std::string_view kListening = " 00010000 ";  // flags: an accepted socket has the name, too
  std::map<std::uint16_t, Found> there;
  std::ifstream list("/proc/net/unix");
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find(" @stp:");
    if (at == std::string::npos) continue;
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string_view text = std::string_view(line).substr(at + 2, sizeof address.sun_path - 1);
    text.copy(address.sun_path + 1, text.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    const auto name = run::decode(reinterpret_cast<const sockaddr*>(&address), length);
    if (!name || name->local.port == 0) continue;
    const bool listens = name->kind == SocketName::Kind::kListener && line.find(kListening) < at;
    if (listens && name->local.ip == hosts.own_address() && name->tail == hosts.storage_tag())
      there[name->local.port].entrances.insert({.v6 = name->v6, .share = name->peer.port});
    else if (name->kind == SocketName::Kind::kOverTcp && name->peer.ip == hosts.storage_tag())
      there[name->local.port].tcp = name->local.ip == INADDR_ANY ? INADDR_LOOPBACK : name->local.ip;
  }
  complete = list.eof();
  return there;
}

// What is gone is given up at the second look in a row: the list is read in pieces, and changes meanwhile.
void RunListeners::look() {
  bool complete = false;
  const std::map<std::uint16_t, Found> there = read_names(hosts_, complete);
  if (!complete) return;
  std::vector<std::uint16_t> dead;
  for (const auto& [port, listener] : listeners_) {
    const auto it = there.find(port);
    const Found found = it != there.end() ? it->second : Found{};
    std::erase_if(listener->entrances, [&, l = listener.get()](const Entrance& e) { return !found.entrances.contains(e) && !l->missed.insert(e).second; });
    for (const Entrance& e : found.entrances) listener->missed.erase(e);
    if (found.tcp)
      listener->tcp_missed = false;
    else if (listener->tcp && std::exchange(listener->tcp_missed, true))
      listener->tcp.reset();
    if (listener->empty()) dead.push_back(port);
  }
  for (const std::uint16_t port : dead) close(port);
  for (const auto& [port, found] : there) {
    std::shared_ptr<Listener> listener;
    if (listeners_.contains(port) || open(port, kAdoptedBacklog, listener) != 0) continue;
    listener->user_known = false;
    listener->entrances = found.entrances;
    if (found.entrances.empty()) listener->tcp = found.tcp;
  }
}

// -- What comes ----------------------------------------------------------------------------------------------------

void RunListeners::accept(const std::shared_ptr<Listener>& listener) {
  while (!listener->full && listener->socket) {
    sockaddr_stp peer = {};
    socklen_t length = sizeof peer;
    StpSocket socket(STPaccept4(listener->socket.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS) {
        loop_.change(listener->readable, 0);
        loop_.after(kRest, [this, listener] {
          if (listener->socket) loop_.change(listener->readable, EPOLLIN);
        });
      }
      return;
    }
    auto arriving = std::make_shared<Arriving>();
    arriving->listener = listener;
    arriving->socket = std::move(socket);
    peer.stp_system[sizeof peer.stp_system - 1] = 0;
    arriving->name = {.kind = SocketName::Kind::kRelayed,
                      .local = {hosts_.address_of(peer.stp_system), ntohs(peer.stp_port)},
                      .peer = {hosts_.own_address(), listener->port},
                      .tail = random_number()};
    arriving->until = EventLoop::Clock::now() + kGiveUpAfter;
    deliver(arriving);
  }
}

// Into the program's queue; where that is full, again a little later.
void RunListeners::deliver(const std::shared_ptr<Arriving>& arriving) {
  const std::shared_ptr<Listener> listener = arriving->listener;
  if (!listener->socket) return;
  const bool was_full = std::exchange(listener->full, false);
  const Delivery delivery = listener->tcp ? deliver_to_tcp(arriving) : deliver_to_unix(arriving);
  if (listener->empty()) return close(listener->port);
  if (delivery == Delivery::kDone && was_full) accept(listener);
  if (delivery != Delivery::kFull || EventLoop::Clock::now() >= arriving->until) return;
  listener->full = true;
  loop_.change(listener->readable, 0);
  loop_.after(kTryAgain, [this, arriving] {
    if (arriving->listener->socket) loop_.change(arriving->listener->readable, EPOLLIN);
    deliver(arriving);
  });
}

// Those that share a port have their turns.
RunListeners::Delivery RunListeners::deliver_to_unix(const std::shared_ptr<Arriving>& arriving) {
  Listener& listener = *arriving->listener;
  std::vector<Entrance> entrances(listener.entrances.begin(), listener.entrances.end());
  if (entrances.empty()) return Delivery::kNobody;
  std::ranges::rotate(entrances, entrances.begin() + static_cast<std::ptrdiff_t>(listener.turn++ % entrances.size()));
  Delivery otherwise = Delivery::kNobody;
  for (const Entrance& entrance : entrances) {
    UniqueFd mine(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketName name = arriving->name;
    name.v6 = entrance.v6;
    const run::UnixName there = run::encode(SocketName::listener(name.peer, name.v6, hosts_.storage_tag(), entrance.share));
    if (!mine || !bind_to(mine.get(), name)) return Delivery::kFull;
    refuse_descriptors(mine.get());
    set_send_buffer(mine.get(), kConversationBuffer);
    if (::connect(mine.get(), there.get(), there.length) == 0) {
      if (!is_rightful(listener, mine.get())) continue;
      const run::Head head = run::head_of(name);
      conversations_.carry_on(std::move(mine), KernelSide::kUnixHeadMayCome, std::move(arriving->socket), {head.begin(), head.end()}, listener.user, name);
      return Delivery::kDone;
    }
    if (errno == ECONNREFUSED)
      listener.entrances.erase(entrance);  // it is gone
    else
      otherwise = Delivery::kFull;
  }
  return otherwise;
}

// Who listens under the name now may be another user's program that found it free.
bool RunListeners::is_rightful(Listener& listener, int connected) {
  ucred who = {};
  socklen_t length = sizeof who;
  if (::getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return false;
  if (!listener.user_known && (listener.port >= kFirstFreePort || who.uid == 0)) {
    listener.user = who.uid;
    listener.user_known = true;
  }
  return listener.user_known && who.uid == listener.user;
}

// -- To a program that listens on TCP ------------------------------------------------------------------------------

std::optional<NetAddress> RunListeners::peer_behind(std::uint16_t source_port) const {
  const auto it = behind_tcp_.find(source_port);
  return it != behind_tcp_.end() ? std::optional(it->second.peer) : std::nullopt;
}

// Before it connects it is known who is behind its port: the program may ask at once.
RunListeners::Delivery RunListeners::deliver_to_tcp(const std::shared_ptr<Arriving>& arriving) {
  const Listener& listener = *arriving->listener;
  const auto fd = std::make_shared<UniqueFd>(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_in source = internet_address(run::kTcpSource, 0);
  socklen_t length = sizeof source;
  auto* const any = reinterpret_cast<sockaddr*>(&source);
  if (!*fd || ::bind(fd->get(), any, length) != 0 || ::getsockname(fd->get(), any, &length) != 0) return Delivery::kFull;
  const std::uint16_t port = ntohs(source.sin_port);
  behind_tcp_[port] = {.peer = arriving->name.local, .generation = ++generation_};
  const sockaddr_in there = internet_address(*listener.tcp, listener.port);
  if (::connect(fd->get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0 && errno != EINPROGRESS) {
    behind_tcp_.erase(port);
    return Delivery::kNobody;
  }
  const bool watched = loop_.watch(fd->get(), EPOLLOUT, [this, arriving, fd, port](std::uint32_t) { on_tcp_connected(arriving, fd, port); });
  return watched ? Delivery::kDone : Delivery::kFull;
}

// Nobody listens there any more: the conversation is reset.
void RunListeners::on_tcp_connected(const std::shared_ptr<Arriving>& arriving, const std::shared_ptr<UniqueFd>& fd, std::uint16_t source_port) {
  int code = 0;
  socklen_t length = sizeof code;
  loop_.forget(fd->get());
  if (::getsockopt(fd->get(), SOL_SOCKET, SO_ERROR, &code, &length) != 0 || code != 0) {
    behind_tcp_.erase(source_port);
    return arriving->socket.reset();
  }
  conversations_.carry_on(std::move(*fd), KernelSide::kTcp, std::move(arriving->socket), {}, arriving->listener->user, arriving->name,
                          [this, source_port] { forget_later(source_port); });
}

void RunListeners::forget_later(std::uint16_t source_port) {
  const auto it = behind_tcp_.find(source_port);
  if (it == behind_tcp_.end()) return;
  loop_.after(kRemember, [this, source_port, generation = it->second.generation] {
    const auto same = behind_tcp_.find(source_port);
    if (same != behind_tcp_.end() && same->second.generation == generation) behind_tcp_.erase(same);
  });
}

}  // namespace stp
