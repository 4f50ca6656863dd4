#include "tools/run_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
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
constexpr int kGuestsAtOnce = 64;
constexpr unsigned kMostGuestsOfUser = 256;
constexpr int kAdoptedBacklog = 128;
constexpr int kTries = 16;

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

// As the agent's own socket would let that user in: an abstract one lets everybody.
bool may_open_door(const std::string& path, uid_t user, const std::vector<gid_t>& groups) {
  struct stat facts = {};
  if (user == 0) return true;
  if (::stat(path.c_str(), &facts) != 0) return false;
  if (user == facts.st_uid) return (facts.st_mode & S_IWUSR) != 0;
  const bool member = std::ranges::find(groups, facts.st_gid) != groups.end();
  return (facts.st_mode & (member ? S_IWGRP : S_IWOTH)) != 0;
}

// No descriptor is taken from a program where the kernel lets one say so (SO_PASSRIGHTS, Linux 6.16): to close the last reference to
// somebody's can take as long as they like.
void refuse_descriptors(int fd) {
  constexpr int kPassRights = 83;
  const int no = 0;
  (void)::setsockopt(fd, SOL_SOCKET, kPassRights, &no, sizeof no);
}

int receive_request(int fd, RunCall& call) {
  const ssize_t n = ::recv(fd, &call, sizeof call, MSG_DONTWAIT | MSG_TRUNC);
  if (n < 0) return errno;
  call.name.back() = 0;
  return n == sizeof call && call.version == run::kRunVersion ? 0 : EPROTO;
}

void send_answer(int fd, const RunAnswer& answer, int descriptor) {
  iovec piece = {.iov_base = const_cast<RunAnswer*>(&answer), .iov_len = sizeof answer};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  }
  (void)!::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// The program's end, which is not writable, and the agent's.
bool make_pair(UniqueFd& program, UniqueFd& mine) {
  int pair[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return false;
  program.reset(pair[0]);
  mine.reset(pair[1]);
  const int smallest = 1;
  const char hello[run::kHelloBytes] = {};
  refuse_descriptors(mine.get());
  return ::fcntl(mine.get(), F_SETFL, O_NONBLOCK) == 0 && ::setsockopt(program.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest) == 0 &&
         ::send(program.get(), hello, sizeof hello - 1, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof hello - 1) &&
         ::send(program.get(), hello, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

}  // namespace

// Of one port; IPv4 and IPv6 programs may listen on it side by side.
struct RunServer::Listener {
  int socket = -1;
  int readable = -1;
  std::uint16_t port = 0;
  uid_t user = 0;
  bool user_known = true;   // false: adopted, from an agent before this one
  std::set<bool> families;  // v6
  std::set<bool> missed;    // that were not found at the last look
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
  sockaddr_stp there = {};
  uid_t user = 0;
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
    self->look_for_listeners();
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
  (void)::unsetenv("STP_STG");  // never a host of its own beside the agent
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
  for (int i = 0; i < kGuestsAtOnce; ++i) {
    const int fd = ::accept4(door_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      loop_->change(door_.get(), 0);
      loop_->after(100ms, [this] { loop_->change(door_.get(), EPOLLIN); });
      return;
    }
    uid_t user = 0;
    const auto guest = std::make_shared<UniqueFd>(fd);
    const bool welcome = may_use(fd, user);
    if (const auto there = guests_of_user_.find(user); there != guests_of_user_.end() && there->second >= kMostGuestsOfUser) continue;
    refuse_descriptors(fd);
    ++guests_of_user_[user];
    const auto end = [this, guest, user] {
      if (!*guest) return;
      loop_->forget(guest->get());
      guest->reset();
      if (--guests_of_user_[user] == 0) guests_of_user_.erase(user);
    };
    const bool watched = loop_->watch(fd, EPOLLIN, [this, guest, user, welcome, end](std::uint32_t) {
      if (*guest) serve(guest->get(), user, welcome);
      end();
    });
    if (watched)
      loop_->after(kRequestWithin, end);
    else
      end();
  }
}

bool RunServer::may_use(int fd, uid_t& user) {
  ucred who = {};
  socklen_t length = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return false;
  user = who.uid;
  const std::vector<gid_t> groups = host::groups_of_peer(fd, who.gid);
  if (!may_open_door(settings_.agent_path, who.uid, groups)) return false;
  const std::lock_guard lock(mutex_);
  return access_.allows(who.uid, groups);
}

// Also who is not welcome is read first: closed with something unread, the socket would lose the answer.
void RunServer::serve(int fd, uid_t user, bool welcome) {
  RunCall call;
  UniqueFd program;
  RunAnswer reply;
  const int code = receive_request(fd, call);
  if (code == EAGAIN) return;
  reply.error = !welcome ? EACCES : code != 0 ? code : answer(call, user, program, reply);
  send_answer(fd, reply, reply.error == 0 ? program.get() : -1);
}

int RunServer::answer(const RunCall& call, uid_t user, UniqueFd& program, RunAnswer& answer) {
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
    case RunRequest::kConnect: return connect(call, user, program);
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
    const std::shared_ptr<Listener> kept = found->second;  // the look may end it
    Listener& there = *kept;
    // Its socket has the name, which nobody else has then: one that is gone was replaced. The other family's name is as free to take for
    // another user, who is not to get this one's conversations.
    there.families.erase(v6);
    if (there.user_known && there.user != user && !there.families.empty()) {
      look_for_listeners();
      if (!there.families.empty()) return EADDRINUSE;
      return listen(call, user);
    }
    there.user = user;
    there.user_known = true;
    there.families.insert(v6);
    there.missed.erase(v6);
    return 0;
  }
  return open_listener(call.port, call.backlog, v6, user);
}

int RunServer::open_listener(std::uint16_t port, int backlog, bool v6, std::optional<uid_t> user) {
  auto listener = std::make_shared<Listener>();
  listener->port = port;
  listener->user = user.value_or(0);
  listener->user_known = user.has_value();
  listener->families.insert(v6);
  listener->socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const sockaddr_stp address = stp_address("", port);
  const bool good = listener->socket >= 0 && STPbind(listener->socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                    STPlisten(listener->socket, std::clamp(backlog, 1, 4096)) == 0 &&
                    (listener->readable = STPgetpollfd(listener->socket, POLLIN)) >= 0 &&
                    loop_->watch(listener->readable, EPOLLIN, [this, weak = std::weak_ptr(listener)](std::uint32_t) {
                      if (const auto one = weak.lock()) accept(one);
                    });
  if (!good) return errno;
  listeners_[port] = listener;
  look_again_later();
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
    if (!mine || !bind_to(mine.get(), name)) {
      full = true;
      break;
    }
    refuse_descriptors(mine.get());
    buffer_of(mine.get(), kProgramBuffer);
    if (::connect(mine.get(), there.get(), there.length) == 0) {
      if (!is_rightful(listener, mine.get())) {
        ++family;
        continue;
      }
      const run::Head head = run::head_of(name);
      carry_on(std::move(mine), KernelSide::kUnixHeadMayCome, std::exchange(arriving->socket, -1), {head.begin(), head.end()}, listener.user);
      if (was_full) accept(arriving->listener);
      return;
    }
    if (errno != ECONNREFUSED) {
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

// Who listens under the name now may be another user's program that found it free.
bool RunServer::is_rightful(Listener& listener, int connected) {
  ucred who = {};
  socklen_t length = sizeof who;
  if (::getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return false;
  if (!listener.user_known && (listener.port >= kFirstFreePort || who.uid == 0)) {
    listener.user = who.uid;
    listener.user_known = true;
  }
  return listener.user_known && who.uid == listener.user;
}

void RunServer::look_again_later() {
  if (!std::exchange(looks_for_dead_, true)) loop_->after(kLookForDead, [this] {
    looks_for_dead_ = false;
    look_for_listeners();
    if (!listeners_.empty()) look_again_later();
  });
}

// The kernel's list of Unix sockets says which names are there still: those that are gone are given up (at the second look in a row: the
// list is read in pieces, and changes meanwhile), those that an agent before this one knew are taken up.
void RunServer::look_for_listeners() {
  constexpr std::string_view kListening = " 00010000 ";  // flags: an accepted socket has the name, too
  std::map<std::uint16_t, std::set<bool>> there;
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
    if (name && name->local.ip == own_address() && name->tail == static_cast<std::uint32_t>(storage())) there[name->local.port].insert(name->v6);
  }
  if (!list.eof()) return;
  std::vector<std::uint16_t> dead;
  for (const auto& [port, listener] : listeners_) {
    const std::set<bool>& found = there[port];
    std::erase_if(listener->families, [&, l = listener.get()](bool v6) { return !found.contains(v6) && !l->missed.insert(v6).second; });
    for (const bool v6 : found) listener->missed.erase(v6);
    if (listener->families.empty()) dead.push_back(port);
  }
  for (const std::uint16_t port : dead) close_listener(port);
  for (const auto& [port, families] : there)
    for (const bool v6 : families)
      if (!listeners_.contains(port)) (void)open_listener(port, kAdoptedBacklog, v6, std::nullopt);
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

int RunServer::connect(const RunCall& call, uid_t user, UniqueFd& program) {
  if (call.port == 0) return EPROTO;
  if (call.own_port != 0 && call.own_port < kFirstFreePort && user != 0) return EACCES;
  const auto used = conversations_of_user_.find(user);
  if (used != conversations_of_user_.end() && used->second >= settings_.most_of_a_user) return ENOBUFS;
  const std::string host = name_of(call.ip);
  if (host.empty()) return EHOSTUNREACH;
  auto connecting = std::make_shared<Connecting>();
  connecting->user = user;
  if (!make_pair(connecting->program, connecting->mine)) return ENOBUFS;
  program.reset(::fcntl(connecting->program.get(), F_DUPFD_CLOEXEC, 0));
  if (!program) return ENOBUFS;
  connecting->peer = {call.ip, call.port};
  connecting->v6 = (call.flags & RunCall::kV6) != 0;
  connecting->socket = STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (connecting->socket < 0) return errno;
  if (call.own_port != 0) {
    const sockaddr_stp own = stp_address("", call.own_port);
    if (STPbind(connecting->socket, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) return errno;
  }
  const sockaddr_stp& there = connecting->there = stp_address(host, call.port);
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
  // The descriptor may ring for nothing; a second connect says how the first one stands.
  const sockaddr_stp& there = connecting->there;
  int code = STPconnect(connecting->socket, reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0 ? 0 : errno;
  if (code == EALREADY || code == EINPROGRESS || code == EINTR) return;
  if (code == EISCONN) code = 0;
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
  char hello[run::kHelloBytes - 1];
  if (!bind_to(connecting.program.get(), name)) return failed(connecting, ENOBUFS);
  for (const int fd : {connecting.program.get(), connecting.mine.get()}) buffer_of(fd, kProgramBuffer);
  connecting.program.reset();
  // What the program said before it was connected, it did not say: it could not write.
  if (::recv(connecting.mine.get(), hello, sizeof hello, MSG_DONTWAIT) != static_cast<ssize_t>(sizeof hello)) return;
  carry_on(std::move(connecting.mine), KernelSide::kUnixWithHead, std::exchange(connecting.socket, -1), {}, connecting.user);
}

void RunServer::failed(Connecting& connecting, int code) {
  SocketName name{.kind = SocketName::Kind::kFailed, .v6 = connecting.v6, .tail = static_cast<std::uint32_t>(code)};
  for (int i = 0; i < kTries; ++i) {
    name.local.ip = random_number();  // no two sockets have the same name
    name.peer.ip = random_number();
    if (bind_to(connecting.program.get(), name)) break;
  }
  connecting.program.reset();
  connecting.mine.reset();
}

void RunServer::carry_on(UniqueFd kernel, KernelSide side, int stp_socket, std::vector<std::byte> head, uid_t user) {
  const std::uint64_t number = next_relay_++;
  relays_[number] = {};
  ++conversations_of_user_[user];
  const auto relay = Relay::start(*loop_, std::move(kernel), side, stp_socket, [this, number, user](const Relay::Totals&, bool) {
    relays_.erase(number);
    if (--conversations_of_user_[user] == 0) conversations_of_user_.erase(user);
  }, std::move(head));
  if (const auto it = relays_.find(number); it != relays_.end()) it->second = relay;  // it may have ended at once
}

}  // namespace stp
