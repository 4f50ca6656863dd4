#include "hostlib/preload_hold.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <optional>
#include <vector>

#include "hostlib/preload_descriptor.h"
#include "hostlib/preload_listen.h"
#include "hostlib/preload_real.h"
#include "hostlib/preload_state.h"
#include "hostlib/run_protocol.h"
#include "stp/thread_signals.h"

namespace stp::run {
namespace {

constexpr int kPatienceS = 2;  // with the agent: a fork waits as long

// A socket of ours. Its number may be another's meanwhile: a program may close what it does not know.
struct Own {
  int fd = -1;
  SocketName name;
  bool is_there() const { return fd >= 0 && name_of(fd) == name; }
  void close() {
    if (is_there()) (void)real_close(fd);
    fd = -1;
  }
};

struct Held {
  NetAddress port;  // of this host
  std::array<Own, 2> names;
  struct Member {
    ino_t inode = 0;  // of the program's socket
    Own marker;       // for one of TCP
  };
  std::vector<Member> members;
  bool is_there() const { return std::ranges::all_of(names, &Own::is_there); }
};

bool closes_on_exec(int fd) { return (real_fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; }

struct State {
  std::mutex making;  // before the other: held while sockets are made that nothing knows yet, so no fork copies such a one
  std::mutex mutex;
  std::vector<Held> ports;
  pid_t process = ::getpid();
};

State& state();

void before_fork() {
  state().making.lock();
  state().mutex.lock();
}

void after_fork_in_parent() {
  state().mutex.unlock();
  state().making.unlock();
}

void after_fork() {
  state().process = ::getpid();
  after_fork_in_parent();
}

// Never destroyed: threads may call while the process ends.
State& state() {
  static State& all = *[] {
    auto* const made = new State;
    (void)::pthread_atfork(before_fork, after_fork_in_parent, after_fork);
    return made;
  }();
  return all;
}

std::optional<ino_t> inode_of(int fd) {
  struct stat facts = {};
  return ::fstat(fd, &facts) == 0 ? std::optional(facts.st_ino) : std::nullopt;
}

Own keep(int low, const SocketName& name) {
  constexpr int kOutOfTheWay = 512;
  const int high = real_fcntl(low, F_DUPFD_CLOEXEC, kOutOfTheWay);
  if (high >= 0) (void)real_close(low);
  return {.fd = high >= 0 ? high : low, .name = name};
}

// An errno, or 0.
int make_own(const SocketName& name, Own& own) {
  const int low = unix_socket();
  if (low < 0) return errno;
  if (!bind_to(low, name)) {
    const int code = errno;
    (void)real_close(low);
    return code;
  }
  own = keep(low, name);
  return 0;
}

// An errno, or 0.
int copy_of_agents(const SocketName& name, Own& own) {
  RunCall call;
  call.what = RunRequest::kShare;
  call.port = name.local.port;
  call.flags = name.v6 ? RunCall::kV6 : 0;
  int copy = -1;
  if (const int code = ask_agent(storage_of(name.local.ip), call, &copy, kPatienceS); code != 0) return code;
  own = keep(copy, name);
  if (own.is_there()) return 0;
  (void)real_close(own.fd);
  return EPROTO;
}

// Both names or none. An errno, or 0.
template <typename Make>
int get_names_by(Held& held, Make make) {
  for (const bool v6 : {false, true}) {
    const int code = make(SocketName::listener(held.port, v6, storage_of(held.port.ip).tag), held.names[v6 ? 1 : 0]);
    if (code == 0) continue;
    for (Own& own : held.names) own.close();
    return code;
  }
  return 0;
}

// With the lock.
Held* known_port(NetAddress port) {
  auto& ports = state().ports;
  const auto known = std::ranges::find(ports, port, &Held::port);
  if (known == ports.end()) return nullptr;
  if (known->is_there()) return &*known;
  ports.erase(known);
  return nullptr;
}

// `shares`: with other processes of this user, if they do, too; without an agent that helps with that, with nobody. An errno, or 0.
int get_names(Held& held, bool shares) {
  for (bool again = false;; again = true) {
    int code = shares ? get_names_by(held, copy_of_agents) : EPERM;
    if (code != 0 && code != EADDRINUSE) code = get_names_by(held, make_own);
    if (code != EADDRINUSE || again || !unshare(held.port)) return code;
  }
}

// With `making`. Takes the lock, which it does not have while it asks the agent. Nothing with an errno: somebody else has the port.
Held* take_port(std::unique_lock<std::mutex>& lock, NetAddress port, bool shares) {
  lock.lock();
  if (Held* const known = known_port(port)) return known;
  lock.unlock();
  Held held{.port = port, .names = {}, .members = {}};
  const int code = get_names(held, shares);
  lock.lock();
  if (code == 0) return &state().ports.emplace_back(std::move(held));
  errno = code;
  return nullptr;
}

// With the lock. As the program's sockets for the port: what one of them survives, its names do.
void follow(const Held& held) {
  const auto survives = [&](const Held::Member& member) {
    const auto is_its = [&](int fd) { return inode_of(fd) == member.inode && !closes_on_exec(fd); };
    return std::ranges::any_of(all_marked(Mark::kHolds), is_its);
  };
  bool some = false;
  for (const Held::Member& member : held.members) {
    const bool one = survives(member);
    some |= one;
    if (member.marker.is_there()) (void)real_fcntl(member.marker.fd, F_SETFD, one ? 0 : FD_CLOEXEC);
  }
  for (const Own& own : held.names)
    if (own.is_there()) (void)real_fcntl(own.fd, F_SETFD, some ? 0 : FD_CLOEXEC);
}

// With the lock.
void add_member(Held& held, Held::Member member, int fd) {
  held.members.push_back(std::move(member));
  set_mark(fd, Mark::kHolds, true);
  follow(held);
}

// With the lock.
void give_back_if_empty(NetAddress port) {
  auto& ports = state().ports;
  const auto held = std::ranges::find(ports, port, &Held::port);
  if (held == ports.end() || !held->members.empty()) return;
  for (Own& own : held->names) own.close();
  ports.erase(held);
}

// A name that nobody has: what is random in it no other user guesses in time to be there first.
template <typename Bind>
int bind_anywhere(SocketName name, Bind bind) {
  int code = EADDRINUSE;
  for (int i = 0; i < kTries && code == EADDRINUSE; ++i) {
    name.peer.port = static_cast<std::uint16_t>(random_number());
    code = bind(name);
  }
  return code;
}

bool shares_port(int fd) { return int_option(fd, SOL_SOCKET, SO_REUSEPORT) > 0; }

}  // namespace

bool unshare(NetAddress port) {
  constexpr int kMoments = 100;
  constexpr timespec kMoment = {.tv_sec = 0, .tv_nsec = 10'000'000};
  RunCall call;
  call.what = RunRequest::kUnshare;
  call.port = port.port;
  int code = EAGAIN;
  for (int i = 0; i < kMoments && (code = ask_agent(storage_of(port.ip), call, nullptr, kPatienceS)) == EAGAIN; ++i) (void)::nanosleep(&kMoment, nullptr);
  return code == 0;
}

int hold_for_tcp(int fd, NetAddress where) {
  const auto inode = inode_of(fd);
  if (!inode) return errno;
  if (where.port < kFirstFreePort && ::geteuid() != 0) return EACCES;
  const QuietThreads quiet;  // a handler that forks would wait for this very thread
  const std::lock_guard making(state().making);
  const NetAddress port{first_storage().own_ip, where.port};
  Held::Member member{.inode = *inode, .marker = {}};
  const SocketName name{.kind = SocketName::Kind::kOverTcp, .local = where, .peer = {static_cast<std::uint32_t>(*inode), 0}, .tail = first_storage().tag};
  const auto make_marker = [&] { return bind_anywhere(name, [&](const SocketName& each) { return make_own(each, member.marker); }); };
  // One that shares is there before it asks, so that the port is used; one that does not is not, so that it is not when nobody else uses it.
  const bool shares = shares_port(fd);
  int code = shares ? make_marker() : 0;
  std::unique_lock lock(state().mutex, std::defer_lock);
  Held* const held = code == 0 ? take_port(lock, port, shares) : nullptr;
  if (code == 0 && held == nullptr) code = errno;
  if (code == 0 && !shares) code = make_marker();
  if (code == 0)
    add_member(*held, std::move(member), fd);
  else
    member.marker.close();
  if (held != nullptr) give_back_if_empty(port);
  return code;
}

int bind_shared(int fd, NetAddress port) {
  const QuietThreads quiet;  // a handler that forks would wait for this very thread
  const std::lock_guard making(state().making);
  const int bound = unix_socket();
  if (bound < 0) return errno;
  const SocketName name{.kind = SocketName::Kind::kShared, .v6 = is_v6(fd), .local = port, .tail = storage_of(port.ip).tag};
  int code = bind_anywhere(name, [bound](const SocketName& each) { return bind_to(bound, each) ? 0 : errno; });
  std::unique_lock lock(state().mutex, std::defer_lock);
  Held* const held = code == 0 ? take_port(lock, port, true) : nullptr;
  if (code == 0 && held == nullptr) code = errno;
  const auto inode = inode_of(bound);
  if (code != 0) {
    (void)real_close(bound);
    return code;
  }
  code = install(bound, fd, Now::kBound);
  if (code == 0 && inode) add_member(*held, {.inode = *inode, .marker = {}}, fd);
  give_back_if_empty(port);
  return code;
}

void follow_close_on_exec(int fd) {
  if (!marked(fd, Mark::kHolds)) return;
  const int kept = errno;
  const std::unique_lock lock(state().mutex, std::try_to_lock);
  const auto inode = lock ? inode_of(fd) : std::nullopt;
  if (inode)
    for (const Held& held : state().ports)
      if (std::ranges::find(held.members, *inode, &Held::Member::inode) != held.members.end()) follow(held);
  errno = kept;
}

namespace {

std::vector<int> open_descriptors() {
  std::vector<int> out;
  DIR* const list = ::opendir("/proc/self/fd");
  if (list == nullptr) return out;
  while (const dirent* const entry = ::readdir(list))
    if (entry->d_name[0] != '.') out.push_back(std::atoi(entry->d_name));
  std::erase(out, ::dirfd(list));
  (void)::closedir(list);
  return out;
}

// What a program before this one left, for its socket of that inode. False: not all that belongs to it.
bool inherit(int fd, ino_t inode, NetAddress port, bool tcp, const std::vector<Own>& left) {
  const auto find = [&](auto fits) {
    const auto it = std::ranges::find_if(left, [&](const Own& own) { return own.name.local.port == port.port && fits(own.name); });
    return it != left.end() ? *it : Own{};
  };
  Held::Member member{.inode = inode, .marker = {}};
  if (tcp) member.marker = find([&](const SocketName& name) { return name.kind == SocketName::Kind::kOverTcp && name.peer.ip == inode; });
  auto& ports = state().ports;
  auto held = std::ranges::find(ports, port, &Held::port);
  if (held == ports.end()) {
    Held made{.port = port, .names = {}, .members = {}};
    for (const bool v6 : {false, true}) made.names[v6 ? 1 : 0] = find([&](const SocketName& name) { return name.kind == SocketName::Kind::kListener && name.v6 == v6 && name.local == port; });
    if (!made.is_there()) return false;
    held = ports.insert(ports.end(), std::move(made));
  }
  if (tcp && !member.marker.is_there()) return false;
  add_member(*held, std::move(member), fd);
  return true;
}

}  // namespace

void take_up_held() {
  if (!settings().on) return;
  std::vector<Own> left;
  std::vector<int> listeners;
  for (const int fd : open_descriptors()) {
    const auto name = name_of(fd);
    if (int_option(fd, SOL_SOCKET, SO_ACCEPTCONN) > 0)
      listeners.push_back(fd);
    else if (name && (name->kind == SocketName::Kind::kListener || name->kind == SocketName::Kind::kOverTcp))
      left.push_back({.fd = fd, .name = *name});
  }
  for (const int fd : listeners) {
    const auto name = name_of(fd);
    const auto tcp = name ? std::nullopt : listens_on_both(fd);
    const auto inode = inode_of(fd);
    if (!inode || (name ? name->kind != SocketName::Kind::kShared : !tcp)) continue;
    const NetAddress port = name ? name->local : NetAddress{first_storage().own_ip, tcp->port};
    std::unique_lock lock(state().mutex);
    const bool inherited = inherit(fd, *inode, port, !name, left);
    lock.unlock();
    if (!inherited && tcp) hold_listener(fd, *tcp);
  }
}

void let_go(int fd) {
  // A child of vfork(2) has this memory, and not these descriptors.
  if (!marked(fd, Mark::kHolds) || state().process != ::getpid()) return;
  const int kept = errno;
  // Taken by somebody whom a signal interrupted, perhaps in this very thread: what is held then is held until the process ends.
  const std::unique_lock lock(state().mutex, std::try_to_lock);
  const auto inode = lock ? inode_of(fd) : std::nullopt;
  set_mark(fd, Mark::kHolds, false);
  bool others = !inode;
  if (inode)
    for (const int each : all_marked(Mark::kHolds)) others |= inode_of(each) == inode;
  for (std::size_t i = 0; !others && i < state().ports.size(); ++i) {
    Held& held = state().ports[i];
    const auto member = std::ranges::find(held.members, *inode, &Held::Member::inode);
    if (member == held.members.end()) continue;
    member->marker.close();
    held.members.erase(member);
    give_back_if_empty(held.port);
    break;
  }
  errno = kept;
}

}  // namespace stp::run
