#include "tools/run_listeners.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/run_sockets.h"

namespace stp {

using run::kFirstFreePort;
using run::RunCall;
using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr auto kLookAgain = 1s;
constexpr auto kTryAgain = 5ms;      // a listener whose queue is full
constexpr auto kGiveUpAfter = 10s;
constexpr auto kRest = 100ms;        // when there is no room for one more descriptor
constexpr int kLooks = 2;            // at the kernel's list, which is read in pieces and changes meanwhile
constexpr int kAdoptedBacklog = 128;
constexpr int kMostBacklog = 4096;

}  // namespace

// Of one port.
struct RunListeners::Listener {
  StpSocket socket;
  int readable = -1;
  std::uint16_t port = 0;
  uid_t user = 0;
  bool user_known = true;              // false: adopted, from an agent before this one
  Names names;
  std::set<bool> missed;               // that were not found at the last look
  bool full = false;                   // one waits for room in the program's queue: the others wait behind it
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

// Nobody is believed to have a name: the kernel's list says which socket has it. A listener that is another user's stays that user's as long as
// one of the sockets it is known by is there.
int RunListeners::listen(const RunCall& call, uid_t user) {
  if (call.port == 0) return EINVAL;
  if (call.port < kFirstFreePort && user != 0) return EACCES;
  const bool v6 = (call.flags & RunCall::kV6) != 0;
  Names mine, held;
  for (int look = 0; look < kLooks; ++look) {
    std::map<std::uint16_t, Names> names;
    if (!read_names(names)) return EIO;
    for (const auto& [family, inode] : names[call.port]) (family == v6 ? mine : held)[family] = inode;
  }
  if (mine.empty()) return EINVAL;  // the caller does not listen under that name
  const auto found = listeners_.find(call.port);
  std::shared_ptr<Listener> listener = found != listeners_.end() ? found->second : nullptr;
  if (listener != nullptr && (!listener->user_known || listener->user != user)) {
    const bool same_socket = std::ranges::find(listener->names, *mine.begin()) != listener->names.end();
    if (same_socket && !listener->user_known) return 0;  // nothing new: whose it is the first conversation tells
    const bool others = std::ranges::any_of(listener->names, [&](const auto& known) { return held.contains(known.first); });
    if (same_socket || others || (!listener->user_known && !held.empty())) return EADDRINUSE;
    listener->names.clear();
  }
  if (listener == nullptr)
    if (const int code = open(call.port, call.backlog, listener); code != 0) return code;
  listener->user = user;
  listener->user_known = true;
  listener->names[v6] = mine.begin()->second;
  listener->missed.erase(v6);
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

bool RunListeners::read_names(std::map<std::uint16_t, Names>& names) const {
  constexpr std::string_view kListening = " 00010000 ";  // flags: an accepted socket has the name, too
  std::ifstream list("/proc/net/unix");
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find(" @stp:L");
    if (at == std::string::npos || line.find(kListening) >= at) continue;
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string_view text = std::string_view(line).substr(at + 2, sizeof address.sun_path - 1);
    text.copy(address.sun_path + 1, text.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    const auto name = run::decode(reinterpret_cast<const sockaddr*>(&address), length);
    std::uint64_t inode = 0;  // the column ahead of the name
    const std::size_t column = line.rfind(' ', at - 1) + 1;
    const bool good = name && std::from_chars(line.data() + column, line.data() + at, inode).ec == std::errc();
    if (good && name->local.ip == hosts_.own_address() && name->tail == hosts_.storage_tag()) names[name->local.port][name->v6] = inode;
  }
  return list.eof();
}

// What is gone is given up at the second look in a row: the list is read in pieces, and changes meanwhile.
void RunListeners::look() {
  std::map<std::uint16_t, Names> names;
  if (!read_names(names)) return;
  std::vector<std::uint16_t> dead;
  for (const auto& [port, listener] : listeners_) {
    const Names& there = names[port];
    std::erase_if(listener->names, [&, l = listener.get()](const auto& known) { return !there.contains(known.first) && !l->missed.insert(known.first).second; });
    for (const auto& [v6, inode] : there) listener->missed.erase(v6);
    if (listener->names.empty()) dead.push_back(port);
  }
  for (const std::uint16_t port : dead) close(port);
  for (const auto& [port, there] : names) {
    std::shared_ptr<Listener> listener;
    if (there.empty() || listeners_.contains(port) || open(port, kAdoptedBacklog, listener) != 0) continue;
    listener->user_known = false;
    listener->names = there;
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
  const Delivery delivery = try_to_deliver(arriving);
  if (listener->names.empty()) return close(listener->port);
  if (delivery == Delivery::kDone && was_full) accept(listener);
  if (delivery != Delivery::kFull || EventLoop::Clock::now() >= arriving->until) return;
  listener->full = true;
  loop_.change(listener->readable, 0);
  loop_.after(kTryAgain, [this, arriving] {
    if (arriving->listener->socket) loop_.change(arriving->listener->readable, EPOLLIN);
    deliver(arriving);
  });
}

RunListeners::Delivery RunListeners::try_to_deliver(const std::shared_ptr<Arriving>& arriving) {
  Listener& listener = *arriving->listener;
  for (auto known = listener.names.begin(); known != listener.names.end();) {
    UniqueFd mine(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketName name = arriving->name;
    name.v6 = known->first;
    const run::UnixName there = run::encode(SocketName::listener(name.peer, name.v6, hosts_.storage_tag()));
    if (!mine || !bind_to(mine.get(), name)) return Delivery::kFull;
    refuse_descriptors(mine.get());
    set_send_buffer(mine.get(), kConversationBuffer);
    if (::connect(mine.get(), there.get(), there.length) == 0) {
      if (!is_rightful(listener, mine.get())) {
        ++known;
        continue;
      }
      const run::Head head = run::head_of(name);
      conversations_.carry_on(std::move(mine), KernelSide::kUnixHeadMayCome, std::move(arriving->socket), {head.begin(), head.end()}, listener.user, name);
      return Delivery::kDone;
    }
    if (errno != ECONNREFUSED) return Delivery::kFull;
    known = listener.names.erase(known);  // it is gone
  }
  return Delivery::kNobody;
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

}  // namespace stp
