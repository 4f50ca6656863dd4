#include "tools/run_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "hostlib/stp.h"
#include "stp/names.h"

namespace stp {

using run::NetAddress;
using run::RunAnswer;
using run::RunCall;
using run::RunRequest;
using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr std::uint16_t kFirstFreePort = 1024;
constexpr int kProgramBuffer = 1 << 20;  // of a conversation, each way
constexpr auto kLookForDead = 1s;
constexpr auto kTryAgain = 5ms;      // a listener whose queue is full
constexpr auto kGiveUpAfter = 10s;
constexpr auto kRest = 100ms;        // when there is no room for one more descriptor
constexpr auto kRequestWithin = 5000ms;

std::uint32_t random_number() {
  thread_local std::random_device device;
  return device();
}

void buffer_of(int fd, int bytes) {
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

bool bind_to(int fd, const SocketName& name) {
  const run::UnixName text = run::encode(name);
  return ::bind(fd, text.get(), text.length) == 0;
}

sockaddr_stp stp_address(std::string_view host, std::uint16_t port) {
  sockaddr_stp address = {};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  host.substr(0, sizeof address.stp_system - 1).copy(address.stp_system, sizeof address.stp_system - 1);
  return address;
}

void abort_stp(int socket) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  (void)STPsetsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  (void)STPclose(socket);
}

int receive_request(int fd, RunCall& call, UniqueFd (&descriptors)[2]) {
  iovec piece = {.iov_base = &call, .iov_len = sizeof call};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return errno;
  std::size_t count = 0;
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (each->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int got = -1;
      std::memcpy(&got, CMSG_DATA(each) + i * sizeof(int), sizeof got);
      UniqueFd owned(got);
      if (count < 2) descriptors[count++] = std::move(owned);
    }
  }
  call.name.back() = 0;
  return n == sizeof call && call.version == run::kRunVersion ? 0 : EPROTO;
}

}  // namespace

// Of one port; IPv4 and IPv6 programs may listen on it side by side.
struct RunServer::Listener {
  int socket = -1;
  int readable = -1;
  std::uint16_t port = 0;
  uid_t user = 0;
  std::set<bool> families;  // v6
  bool full = false;        // one waits for room in the program's queue: the others wait behind it
  ~Listener() {
    if (socket >= 0) (void)STPclose(socket);
  }
};

// From another host, and not in the program's queue yet.
struct RunServer::Arriving {
  std::shared_ptr<Listener> listener;
  int socket = -1;
  SocketName name;
  EventLoop::Clock::time_point until;
  ~Arriving() {
    if (socket >= 0) abort_stp(socket);
  }
};

struct RunServer::Connecting {
  UniqueFd program, mine;
  int socket = -1;
  int writable = -1;
  NetAddress peer;
  bool v6 = false;
  ~Connecting() {
    if (socket >= 0) abort_stp(socket);
  }
};

// -- Coming and going ----------------------------------------------------------------------------------------------

Result<std::unique_ptr<RunServer>> RunServer::start(host::Agent& agent, const Settings& settings, const host::AgentAccess& access) {
  std::unique_ptr<RunServer> server(new RunServer(agent, settings, access));
  auto loop = EventLoop::make();
  if (!loop) return std::unexpected(loop.error());
  server->loop_ = std::move(*loop);
  if (auto opened = server->open(); !opened) return std::unexpected(opened.error());
  server->thread_ = std::thread([self = server.get()] {
    self->loop_->run();
    self->close_all();
  });
  return server;
}

RunServer::RunServer(host::Agent& agent, const Settings& settings, const host::AgentAccess& access)
    : agent_(agent), settings_(settings), access_(access) {}

RunServer::~RunServer() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
  loop_.reset();
}

void RunServer::set_access(const host::AgentAccess& access) {
  const std::lock_guard lock(mutex_);
  access_ = access;
}

Result<void> RunServer::open() {
  // This process is a program of its own agent; nothing of it looked at these before.
  (void)::setenv("STP_AGENT", settings_.agent_path.c_str(), 1);
  (void)::setenv("STP_STG", settings_.stg_path.c_str(), 1);
  (void)::setenv("STP_HOST", settings_.host.c_str(), 1);
  door_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const run::UnixName name = run::run_server_name(std::filesystem::weakly_canonical(settings_.agent_path).c_str());
  const bool good = door_ && ::bind(door_.get(), name.get(), name.length) == 0 && ::listen(door_.get(), 1024) == 0 &&
                    loop_->watch(door_.get(), EPOLLIN, [this](std::uint32_t) { let_in(); });
  if (!good) return fail(errno, fmt::format("can not serve unmodified programs (stp run) of \"{}\": {}", settings_.agent_path, std::strerror(errno)));
  return {};
}

void RunServer::close_all() {
  for (const auto& [number, weak] : std::exchange(relays_, {}))
    if (const auto relay = weak.lock()) relay->abort();
  while (!listeners_.empty()) close_listener(listeners_.begin()->first);
}

// -- Requests ------------------------------------------------------------------------------------------------------

void RunServer::let_in() {
  for (;;) {
    const int fd = ::accept4(door_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      loop_->change(door_.get(), 0);
      loop_->after(100ms, [this] { loop_->change(door_.get(), EPOLLIN); });
      return;
    }
    uid_t user = 0;
    const auto guest = std::make_shared<UniqueFd>(fd);
    if (!may_use(fd, user)) {
      RunAnswer refusal;
      refusal.error = EACCES;
      (void)!::send(fd, &refusal, sizeof refusal, MSG_DONTWAIT | MSG_NOSIGNAL);
      continue;
    }
    const auto end = [this, guest] {
      if (*guest) loop_->forget(guest->get());
      guest->reset();
    };
    const bool watched = loop_->watch(fd, EPOLLIN, [this, guest, user, end](std::uint32_t) {
      if (*guest) serve(guest->get(), user);
      end();
    });
    if (watched) loop_->after(kRequestWithin, end);
  }
}

bool RunServer::may_use(int fd, uid_t& user) {
  ucred who = {};
  socklen_t length = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return false;
  user = who.uid;
  if (!settings_.for_everybody && who.uid != 0 && who.uid != ::geteuid()) return false;
  const std::lock_guard lock(mutex_);
  return access_.allows(who.uid, host::groups_of_peer(fd, who.gid));
}

void RunServer::serve(int fd, uid_t user) {
  RunCall call;
  UniqueFd descriptors[2];
  RunAnswer reply;
  const int code = receive_request(fd, call, descriptors);
  if (code == EAGAIN) return;
  reply.error = code != 0 ? code : answer(call, user, descriptors, reply);
  (void)!::send(fd, &reply, sizeof reply, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int RunServer::answer(const RunCall& call, uid_t user, UniqueFd* descriptors, RunAnswer& answer) {
  const auto put = [](auto& field, std::string_view text) { text.substr(0, field.size() - 1).copy(field.data(), field.size() - 1); };
  switch (call.what) {
    case RunRequest::kInfo:
      answer.ip = own_address();
      answer.network = settings_.network.base;
      answer.prefix = settings_.network.prefix;
      answer.storage = static_cast<std::uint32_t>(storage());
      put(answer.host, agent_.name());
      put(answer.stg, agent_.stg());
      return 0;
    case RunRequest::kResolve: return resolve(call.name.data(), answer);
    case RunRequest::kReverse: {
      const std::string name = name_of(call.ip);
      if (name.empty()) return ENOENT;
      put(answer.host, name + ".stp");
      return 0;
    }
    case RunRequest::kListen: return listen(call, user);
    case RunRequest::kConnect: return connect(call, std::move(descriptors[0]), std::move(descriptors[1]));
  }
  return EPROTO;
}

int RunServer::resolve(std::string_view name, RunAnswer& answer) {
  std::string folded = fold_name(name);
  if (!folded.ends_with(".stp")) return ENOENT;
  folded.resize(folded.size() - 4);
  if (const std::size_t dot = folded.find('.'); dot != std::string::npos) {
    if (folded.substr(dot + 1) != agent_.stg()) return ENOENT;
    folded.resize(dot);
  }
  answer.ip = address_of(folded);
  return answer.ip != 0 ? 0 : ENOENT;
}

std::uint32_t RunServer::own_address() const { return address_of(agent_.name()); }

std::uint64_t RunServer::storage() const {
  std::uint64_t number = 0;
  std::memcpy(&number, agent_.uuid().data(), sizeof number);
  return number;
}

// 0: no such host.
std::uint32_t RunServer::address_of(std::string_view host) const {
  const MembershipBoard::View view = agent_.view();
  if (view.self.name == host) return settings_.network.address_of(storage(), view.self.identity.slot);
  for (std::size_t slot = 0; slot < view.peers.size(); ++slot)
    if (view.peers[slot].name == host) return settings_.network.address_of(storage(), static_cast<std::uint32_t>(slot));
  return 0;
}

std::string RunServer::name_of(std::uint32_t ip) const {
  const MembershipBoard::View view = agent_.view();
  if (settings_.network.address_of(storage(), view.self.identity.slot) == ip) return view.self.name;
  for (std::size_t slot = 0; slot < view.peers.size(); ++slot)
    if (settings_.network.address_of(storage(), static_cast<std::uint32_t>(slot)) == ip) return view.peers[slot].name;
  return {};
}

// -- Listening -----------------------------------------------------------------------------------------------------

int RunServer::listen(const RunCall& call, uid_t user) {
  if (call.port == 0) return EINVAL;
  if (call.port < kFirstFreePort && user != 0) return EACCES;
  const bool v6 = (call.flags & RunCall::kV6) != 0;
  if (const auto found = listeners_.find(call.port); found != listeners_.end()) {
    // Its socket has the name, which nobody else has then: one that is gone was replaced.
    found->second->user = user;
    found->second->families.insert(v6);
    return 0;
  }
  auto listener = std::make_shared<Listener>();
  listener->port = call.port;
  listener->user = user;
  listener->families.insert(v6);
  listener->socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const sockaddr_stp address = stp_address("", call.port);
  const bool good = listener->socket >= 0 && STPbind(listener->socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                    STPlisten(listener->socket, std::clamp(call.backlog, 1, 4096)) == 0 &&
                    (listener->readable = STPgetpollfd(listener->socket, POLLIN)) >= 0 &&
                    loop_->watch(listener->readable, EPOLLIN, [this, weak = std::weak_ptr(listener)](std::uint32_t) {
                      if (const auto one = weak.lock()) accept(one);
                    });
  if (!good) return errno;
  listeners_[call.port] = listener;
  if (!std::exchange(looks_for_dead_, true)) loop_->after(kLookForDead, [this] { look_for_dead_listeners(); });
  return 0;
}

void RunServer::accept(const std::shared_ptr<Listener>& listener) {
  while (!listener->full && listener->socket >= 0) {
    sockaddr_stp peer = {};
    socklen_t length = sizeof peer;
    const int socket = STPaccept4(listener->socket, reinterpret_cast<sockaddr*>(&peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS) {
        loop_->change(listener->readable, 0);
        loop_->after(kRest, [this, listener] {
          if (listener->socket >= 0) loop_->change(listener->readable, EPOLLIN);
        });
      }
      return;
    }
    auto arriving = std::make_shared<Arriving>();
    arriving->listener = listener;
    arriving->socket = socket;
    peer.stp_system[sizeof peer.stp_system - 1] = 0;
    arriving->name = {.kind = SocketName::Kind::kRelayed,
                      .local = {address_of(peer.stp_system), ntohs(peer.stp_port)},
                      .peer = {own_address(), listener->port},
                      .tail = random_number()};
    arriving->until = EventLoop::Clock::now() + kGiveUpAfter;
    deliver(arriving);
  }
}

// Into the program's queue; where that is full, again a little later.
void RunServer::deliver(const std::shared_ptr<Arriving>& arriving) {
  Listener& listener = *arriving->listener;
  if (listener.socket < 0) return;
  const bool was_full = std::exchange(listener.full, false);
  bool full = false;
  for (auto family = listener.families.begin(); family != listener.families.end();) {
    UniqueFd mine(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SocketName name = arriving->name;
    name.v6 = *family;
    const run::UnixName there = run::encode(SocketName::listener(name.peer, name.v6, static_cast<std::uint32_t>(storage())));
    ucred who = {};
    socklen_t length = sizeof who;
    if (!mine || !bind_to(mine.get(), name)) {
      full = true;
      break;
    }
    buffer_of(mine.get(), kProgramBuffer);
    if (::connect(mine.get(), there.get(), there.length) == 0) {
      // Who listens there now may be another user's program that found the name free.
      if (::getsockopt(mine.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 || who.uid != listener.user) break;
      carry_on(std::move(mine), KernelSide::kUnixHeadMayCome, std::exchange(arriving->socket, -1));
      if (was_full) accept(arriving->listener);
      return;
    }
    if (errno == EAGAIN) {
      full = true;
      break;
    }
    family = listener.families.erase(family);  // it is gone
  }
  if (listener.families.empty()) return close_listener(listener.port);
  if (!full || EventLoop::Clock::now() >= arriving->until) return;
  listener.full = true;
  loop_->change(listener.readable, 0);
  loop_->after(kTryAgain, [this, arriving] {
    if (arriving->listener->socket >= 0) loop_->change(arriving->listener->readable, EPOLLIN);
    deliver(arriving);
  });
}

// The kernel's list of Unix sockets says which names are there still.
void RunServer::look_for_dead_listeners() {
  std::set<std::string> names;
  std::ifstream list("/proc/net/unix");
  for (std::string line; std::getline(list, line);) {
    const std::size_t at = line.find(" @stp:L");
    if (at != std::string::npos) names.insert(line.substr(at + 2));
  }
  if (list.eof()) {
    std::vector<std::uint16_t> dead;
    for (const auto& [port, listener] : listeners_) {
      std::erase_if(listener->families, [&, port = port](bool v6) {
        const run::UnixName name = run::encode(SocketName::listener({own_address(), port}, v6, static_cast<std::uint32_t>(storage())));
        return !names.contains(std::string(name.address.sun_path + 1));
      });
      if (listener->families.empty()) dead.push_back(port);
    }
    for (const std::uint16_t port : dead) close_listener(port);
  }
  looks_for_dead_ = !listeners_.empty();
  if (looks_for_dead_) loop_->after(kLookForDead, [this] { look_for_dead_listeners(); });
}

void RunServer::close_listener(std::uint16_t port) {
  const auto it = listeners_.find(port);
  if (it == listeners_.end()) return;
  const std::shared_ptr<Listener> listener = it->second;
  listeners_.erase(it);
  loop_->forget(listener->readable);
  (void)STPclose(std::exchange(listener->socket, -1));
}

// -- Connecting ----------------------------------------------------------------------------------------------------

int RunServer::connect(const RunCall& call, UniqueFd program, UniqueFd mine) {
  if (!program || !mine || call.port == 0) return EPROTO;
  int domain = 0;
  socklen_t length = sizeof domain;
  for (const int fd : {program.get(), mine.get()})
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || domain != AF_UNIX) return EPROTO;
  const std::string host = name_of(call.ip);
  if (host.empty()) return EHOSTUNREACH;
  auto connecting = std::make_shared<Connecting>();
  connecting->program = std::move(program);
  connecting->mine = std::move(mine);
  connecting->peer = {call.ip, call.port};
  connecting->v6 = (call.flags & RunCall::kV6) != 0;
  connecting->socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connecting->socket < 0) return errno;
  if (call.own_port != 0) {
    const sockaddr_stp own = stp_address("", call.own_port);
    if (STPbind(connecting->socket, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) return errno;
  }
  const sockaddr_stp there = stp_address(host, call.port);
  const int code = STPconnect(connecting->socket, reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0 ? 0 : errno;
  if (code == 0) {
    connected(*connecting);
    return 0;
  }
  if (code != EINPROGRESS) return code == EHOSTDOWN ? EHOSTUNREACH : code;
  connecting->writable = STPgetpollfd(connecting->socket, POLLOUT);
  const bool watched = connecting->writable >= 0 && loop_->watch(connecting->writable, EPOLLIN, [this, connecting](std::uint32_t) { look_at(connecting); });
  return watched ? 0 : ENOBUFS;
}

void RunServer::look_at(const std::shared_ptr<Connecting>& connecting) {
  if (connecting->socket < 0) return;
  int code = 0;
  socklen_t length = sizeof code;
  if (STPgetsockopt(connecting->socket, SOL_SOCKET, SO_ERROR, &code, &length) != 0) code = errno;
  loop_->forget(connecting->writable);
  if (code == 0)
    connected(*connecting);
  else
    failed(*connecting, code == EHOSTDOWN ? EHOSTUNREACH : code);
}

void RunServer::connected(Connecting& connecting) {
  sockaddr_stp own = {};
  socklen_t length = sizeof own;
  (void)STPgetsockname(connecting.socket, reinterpret_cast<sockaddr*>(&own), &length);
  const SocketName name{.kind = SocketName::Kind::kConnected,
                        .v6 = connecting.v6,
                        .local = {own_address(), ntohs(own.stp_port)},
                        .peer = connecting.peer,
                        .tail = random_number()};
  const int flags = ::fcntl(connecting.mine.get(), F_GETFL);
  char hello[run::kHelloBytes - 1];
  if (!bind_to(connecting.program.get(), name) || flags < 0 || ::fcntl(connecting.mine.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    return failed(connecting, ENOBUFS);
  for (const int fd : {connecting.program.get(), connecting.mine.get()}) buffer_of(fd, kProgramBuffer);
  connecting.program.reset();
  // What the program said before it was connected, it did not say: it could not write.
  if (::recv(connecting.mine.get(), hello, sizeof hello, MSG_DONTWAIT) != static_cast<ssize_t>(sizeof hello)) return;
  carry_on(std::move(connecting.mine), KernelSide::kUnixWithHead, std::exchange(connecting.socket, -1));
}

void RunServer::failed(Connecting& connecting, int code) {
  (void)bind_to(connecting.program.get(), {.kind = SocketName::Kind::kFailed, .v6 = connecting.v6, .tail = static_cast<std::uint32_t>(code)});
  connecting.program.reset();
  connecting.mine.reset();
}

void RunServer::carry_on(UniqueFd kernel, KernelSide side, int stp_socket) {
  const std::uint64_t number = next_relay_++;
  relays_[number] = {};
  const auto relay = Relay::start(*loop_, std::move(kernel), side, stp_socket, [this, number](const Relay::Totals&, bool) { relays_.erase(number); });
  if (const auto it = relays_.find(number); it != relays_.end()) it->second = relay;  // it may have ended at once
}

}  // namespace stp
