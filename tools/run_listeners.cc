#include "tools/run_listeners.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <set>
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
constexpr int kAdoptedBacklog = 128;
constexpr int kMostBacklog = 4096;
constexpr std::ptrdiff_t kMostWatchedOfUser = 256;  // programs; each is a descriptor
constexpr std::size_t kMostPortsOfProgram = 64;
constexpr auto kLookedJustNow = 20ms;
constexpr unsigned kMostBrought = 64;  // to one port of TCP at once

std::map<bool, std::uint64_t> listening(const RunPort& port) {
  std::map<bool, std::uint64_t> out;
  for (const bool v6 : {false, true})
    if (const auto& name = port.names[v6 ? 1 : 0]; name && name->listens) out[v6] = name->inode;
  return out;
}

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
  bool held = false;                   // the names are held (run_ports.h): who has it listens by these instead
  std::vector<SocketName> entrances;
  bool held_missed = false;
  std::size_t turn = 0;
  unsigned brought = 0;                // to TCP, and not there yet
  bool is_dead() const { return held ? entrances.empty() : names.empty(); }
  EventLoop::Clock::time_point looked{};  // after somebody found nobody
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
  for (const auto& [number, program] : programs_) loop_.forget(program.process.get());
  programs_.clear();
  tcp_.close_all();
  shares_.close_all();
  while (!listeners_.empty()) close(listeners_.begin()->first);
}

// -- What there is -------------------------------------------------------------------------------------------------

int RunListeners::listen(const RunCall& call, uid_t user) {
  if (call.port == 0) return EINVAL;
  return (call.flags & RunCall::kHeld) != 0 ? listen_held(call) : listen_alone(call, user);
}

// Nobody is believed to have a name: the kernel's list says which socket has it. A listener that is another user's stays that user's as long as
// one of the sockets it is known by is there.
int RunListeners::listen_alone(const RunCall& call, uid_t user) {
  if (call.port < kFirstFreePort && user != 0) return EACCES;
  const bool v6 = (call.flags & RunCall::kV6) != 0;
  Names mine, held;
  bool callers = true;  // as far as the kernel says
  for (int look = 0; look < kRunPortLooks; ++look) {
    std::map<std::uint16_t, RunPort> ports;
    if (!read_run_ports(hosts_, ports)) return EIO;
    const RunPort& port = ports[call.port];
    for (const auto& [family, inode] : listening(port)) (family == v6 ? mine : held)[family] = inode;
    if (const auto& name = port.names[v6 ? 1 : 0]; name && name->user && *name->user != user) callers = false;
  }
  if (mine.empty()) return EINVAL;  // the caller does not listen under that name
  auto found = listeners_.find(call.port);
  if (found != listeners_.end() && found->second->held) {  // no more: the name listens
    close(call.port);
    found = listeners_.end();
  }
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
  listener->user_known = callers;  // else somebody tells of a socket that another user made: whose it is the first conversation tells
  listener->names[v6] = mine.begin()->second;
  listener->missed.erase(v6);
  return 0;
}

// Whoever asks: whose the port is the kernel says. Who listened there by one of the names does not any more.
int RunListeners::listen_held(const RunCall& call) {
  int code = EINVAL;
  for (int look = 0; look < kRunPortLooks; ++look) {
    std::map<std::uint16_t, RunPort> ports;
    if (!read_run_ports(hosts_, ports)) return EIO;
    const RunPort& port = ports[call.port];
    const auto user = port.holder();
    if (!user) {
      code = port.names[0] && !port.names[0]->user ? EOPNOTSUPP : EINVAL;
      continue;
    }
    if (call.port < kFirstFreePort && *user != 0) return EACCES;
    const std::vector<SocketName> entrances = port.entrances_of(*user);
    if (entrances.empty()) continue;
    const auto found = listeners_.find(call.port);
    std::shared_ptr<Listener> listener = found != listeners_.end() ? found->second : nullptr;
    if (listener != nullptr && (!listener->held || listener->user != *user)) {
      close(call.port);
      listener = nullptr;
    }
    if (listener == nullptr)
      if (code = open(call.port, call.backlog, listener); code != 0) return code;
    listener->user = *user;
    listener->held = true;
    listener->held_missed = false;
    listener->entrances = entrances;
    return 0;
  }
  return code;
}

int RunListeners::share(const RunCall& call, uid_t user, UniqueFd& name) {
  const int code = shares_.give(call.port, (call.flags & RunCall::kV6) != 0, user, name);
  if (!shares_.empty()) look_again_later();
  return code;
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
    if (!listeners_.empty() || !shares_.empty()) look_again_later();
  });
}

// What is gone is given up at the second look in a row: the list is read in pieces, and changes meanwhile.
void RunListeners::look() {
  std::map<std::uint16_t, RunPort> ports;
  if (!read_run_ports(hosts_, ports)) return;
  shares_.look(ports);
  std::vector<std::uint16_t> dead;
  for (const auto& [port, listener] : listeners_) {
    look_at(*listener, ports[port]);
    if (listener->is_dead()) dead.push_back(port);
  }
  for (const std::uint16_t port : dead) close(port);
  for (const auto& [port, there] : ports)
    if (!listeners_.contains(port)) adopt(port, there);
}

void RunListeners::watch(pid_t program, uid_t user, std::uint16_t port) {
  if (program <= 0) return;
  const auto known = programs_.find(program);
  if (known != programs_.end() && known->second.ports.size() < kMostPortsOfProgram) known->second.ports.insert(port);
  const auto of_user = std::ranges::count_if(programs_, [user](const auto& each) { return each.second.user == user; });
  if (known != programs_.end() || of_user >= kMostWatchedOfUser) return;
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, program, 0)));
  if (!process) return;  // it has ended, or this kernel has no such call: the looks of every second find out
  const int fd = process.get();
  const bool watched = loop_.watch(fd, EPOLLIN, [this, program, fd](std::uint32_t) {
    loop_.forget(fd);
    const Program ended = std::move(programs_[program]);
    programs_.erase(program);
    for (const std::uint16_t each : ended.ports) give_up_if_gone(each);
  });
  if (watched) programs_[program] = {.process = std::move(process), .user = user, .ports = {port}};
}

void RunListeners::found_nobody(std::uint16_t port) {
  const auto now = EventLoop::Clock::now();
  const auto found = listeners_.find(port);
  if (found == listeners_.end() || now - found->second->looked < kLookedJustNow) return;
  found->second->looked = now;
  give_up_if_gone(port);
}

// A port that is held is left to the looks of every second: its names never listen, and a look that misses some, as the kernel's list is, would be taken for
// their end.
void RunListeners::give_up_if_gone(std::uint16_t port) {
  for (int i = 0; i < kRunPortLooks; ++i) {
    const auto found = listeners_.find(port);
    std::map<std::uint16_t, RunPort> ports;
    if (found == listeners_.end() || found->second->held || !read_run_ports(hosts_, ports)) return;
    look_at(*found->second, ports[port]);
    if (found->second->is_dead()) close(port);
  }
}

void RunListeners::look_at(Listener& listener, const RunPort& port) {
  if (listener.held) {
    std::vector<SocketName> entrances;
    if (port.holder() == listener.user) entrances = port.entrances_of(listener.user);
    if (!entrances.empty() || std::exchange(listener.held_missed, true)) listener.entrances = std::move(entrances);
    if (!listener.entrances.empty() && port.holder() == listener.user) listener.held_missed = false;
    return;
  }
  const Names there = listening(port);
  std::erase_if(listener.names, [&](const auto& known) { return !there.contains(known.first) && !listener.missed.insert(known.first).second; });
  for (const auto& [v6, inode] : there) listener.missed.erase(v6);
}

// Of one that is held, before the next look at all is due.
void RunListeners::look_at(Listener& listener) {
  std::map<std::uint16_t, RunPort> ports;
  if (read_run_ports(hosts_, ports) && ports[listener.port].holder() == listener.user) listener.entrances = ports[listener.port].entrances_of(listener.user);
}

void RunListeners::adopt(std::uint16_t port, const RunPort& there) {
  std::shared_ptr<Listener> listener;
  if (const auto user = there.holder()) {
    const std::vector<SocketName> entrances = port >= kFirstFreePort || *user == 0 ? there.entrances_of(*user) : std::vector<SocketName>();
    if (entrances.empty() || open(port, kAdoptedBacklog, listener) != 0) return;
    listener->held = true;
    listener->user = *user;
    listener->entrances = entrances;
    return;
  }
  const Names names = listening(there);
  if (names.empty() || open(port, kAdoptedBacklog, listener) != 0) return;
  listener->user_known = false;
  listener->names = names;
}

// -- What comes ----------------------------------------------------------------------------------------------------

void RunListeners::accept(const std::shared_ptr<Listener>& listener) {
  while (!listener->full && listener->brought < kMostBrought && listener->socket) {
    sockaddr_stp peer = {};
    socklen_t length = sizeof peer;
    StpSocket socket(STPaccept4(listener->socket.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS) {
        loop_.change(listener->readable, 0);
        loop_.after(kRest, [this, listener] {
          if (listener->socket && listener->brought < kMostBrought) loop_.change(listener->readable, EPOLLIN);
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
  if (listener->is_dead()) return close(listener->port);
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
  if (listener.held) return deliver_by_turns(arriving);
  for (auto known = listener.names.begin(); known != listener.names.end();) {
    const Delivery delivery = connect_to(arriving, SocketName::listener(arriving->name.peer, known->first, hosts_.storage_tag()));
    if (delivery == Delivery::kDone || delivery == Delivery::kFull) return delivery;
    known = delivery == Delivery::kNobody ? listener.names.erase(known) : std::next(known);
  }
  return Delivery::kNobody;
}

// kNobody: it is gone. kOthers: it is not who should listen there.
RunListeners::Delivery RunListeners::connect_to(const std::shared_ptr<Arriving>& arriving, const SocketName& there) {
  Listener& listener = *arriving->listener;
  UniqueFd mine(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  SocketName name = arriving->name;
  name.v6 = there.v6;
  const run::UnixName text = run::encode(there);
  if (!mine || !bind_to(mine.get(), name)) return Delivery::kFull;
  refuse_descriptors(mine.get());
  set_send_buffer(mine.get(), kConversationBuffer);
  if (::connect(mine.get(), text.get(), text.length) != 0) return errno == ECONNREFUSED ? Delivery::kNobody : Delivery::kFull;
  if (!is_rightful(listener, mine.get()) && !is_holders(listener, there)) return Delivery::kOthers;
  const run::Head head = run::head_of(name);
  conversations_.carry_on(std::move(mine), KernelSide::kUnixHeadMayCome, std::move(arriving->socket), {head.begin(), head.end()}, listener.user, name);
  return Delivery::kDone;
}

// TCP's sockets have turns that the kernel gives. Of the others those of IPv4 come first, as everywhere.
RunListeners::Delivery RunListeners::deliver_by_turns(const std::shared_ptr<Arriving>& arriving) {
  Listener& listener = *arriving->listener;
  const auto over_tcp = [&] { return std::ranges::find(listener.entrances, SocketName::Kind::kOverTcp, &SocketName::kind); };
  auto tcp = over_tcp();
  if (tcp != listener.entrances.end() && !listens_on_tcp(*tcp, listener.user)) {
    look_at(listener);  // it ended since the last look, and another one may have the port, too
    tcp = over_tcp();
  }
  if (tcp != listener.entrances.end()) {
    deliver_to_tcp(arriving, *tcp);
    return Delivery::kDone;
  }
  std::vector<SocketName> turns = listener.entrances;
  if (!turns.empty()) std::ranges::rotate(turns, turns.begin() + static_cast<std::ptrdiff_t>(listener.turn++ % turns.size()));
  Delivery otherwise = Delivery::kNobody;
  for (const bool v6 : {false, true})
    for (const SocketName& there : turns) {
      if (there.v6 != v6) continue;
      const Delivery delivery = connect_to(arriving, there);
      if (delivery == Delivery::kDone) return delivery;
      if (delivery == Delivery::kFull) otherwise = delivery;
      if (delivery == Delivery::kNobody) std::erase(listener.entrances, there);
    }
  return otherwise;
}

void RunListeners::deliver_to_tcp(const std::shared_ptr<Arriving>& arriving, const SocketName& entrance) {
  const std::shared_ptr<Listener> listener = arriving->listener;
  if (++listener->brought == kMostBrought) loop_.change(listener->readable, 0);
  tcp_.bring(SocketName(entrance), listener->user, std::move(arriving->socket), arriving->name, [this, listener] {
    if (listener->brought-- == kMostBrought && listener->socket) loop_.change(listener->readable, EPOLLIN);
  });
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

// One that listens as another user than made it (SO_PEERCRED says the former): the kernel says whose the name is, which it was before, too.
bool RunListeners::is_holders(const Listener& listener, const SocketName& there) const {
  std::map<std::uint16_t, RunPort> ports;
  if (!listener.held || !read_run_ports(hosts_, ports)) return false;
  return std::ranges::any_of(ports[listener.port].shared, [&](const auto& entrance) { return entrance.name == there && entrance.user == listener.user; });
}

}  // namespace stp
