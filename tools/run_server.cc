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
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "hostlib/host_options.h"
#include "hostlib/stp.h"
#include "tools/run_sockets.h"

namespace stp {

using run::kFirstFreePort;
using run::NetAddress;
using run::RunAnswer;
using run::RunCall;
using run::RunRequest;
using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr auto kDoorRest = 100ms;    // when there is no room for one more descriptor
constexpr auto kRequestWithin = 5000ms;
constexpr int kGuestsAtOnce = 64;
constexpr unsigned kMostGuestsOfUser = 256;
constexpr int kTries = 16;
constexpr std::uint32_t kLongestTimeoutMs = 600'000;  // of a program's own; STP's is shorter
constexpr unsigned kMostTimed = 16384;                // connects with a timeout of their own, those that have ended included until then

// As the agent's own socket would let that user in: an abstract one lets everybody.
bool may_open_door(const std::string& path, uid_t user, const std::vector<gid_t>& groups) {
  struct stat facts = {};
  if (user == 0) return true;
  if (::stat(path.c_str(), &facts) != 0) return false;
  if (user == facts.st_uid) return (facts.st_mode & S_IWUSR) != 0;
  const bool member = std::ranges::find(groups, facts.st_gid) != groups.end();
  return (facts.st_mode & (member ? S_IWGRP : S_IWOTH)) != 0;
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

struct RunServer::Connecting {
  UniqueFd program, mine;
  StpSocket socket;
  int writable = -1;
  NetAddress peer;
  std::uint16_t own_port = 0;
  sockaddr_stp there = {};
  uid_t user = 0;
  bool v6 = false;
  bool resets = false;  // when the program closes it
};

// -- Coming and going ----------------------------------------------------------------------------------------------

Result<std::unique_ptr<RunServer>> RunServer::start(host::Agent& agent, const Settings& settings, const host::AgentAccess& access) {
  auto loop = EventLoop::make();
  if (!loop) return std::unexpected(loop.error());
  std::unique_ptr<RunServer> server(new RunServer(agent, settings, access, std::move(*loop)));
  if (auto opened = server->open(); !opened) return std::unexpected(opened.error());
  server->thread_ = std::thread([self = server.get()] {
    host::be_host_of_agent(self->settings_.agent_path, self->agent_.path(), self->settings_.host);
    self->listeners_.look();
    self->loop_->run();
    self->close_all();
  });
  return server;
}

RunServer::RunServer(host::Agent& agent, const Settings& settings, const host::AgentAccess& access, std::unique_ptr<EventLoop> loop)
    : agent_(agent),
      settings_(settings),
      hosts_(agent, settings.network),
      access_(access),
      loop_(std::move(loop)),
      conversations_(*loop_, settings.most_of_a_user),
      listeners_(*loop_, hosts_, conversations_),
      aborts_(*loop_, hosts_) {}

RunServer::~RunServer() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

void RunServer::set_access(const host::AgentAccess& access) {
  const std::lock_guard lock(mutex_);
  access_ = access;
}

Result<void> RunServer::open() {
  door_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const run::UnixName name = run::run_server_name(std::filesystem::weakly_canonical(settings_.agent_path).c_str(), settings_.number);
  const bool good = door_ && ::bind(door_.get(), name.get(), name.length) == 0 && ::listen(door_.get(), 1024) == 0 &&
                    loop_->watch(door_.get(), EPOLLIN, [this](std::uint32_t) { let_in(); });
  if (!good) return fail(errno, fmt::format("can not serve unmodified programs (stp run) of \"{}\": {}", settings_.agent_path, std::strerror(errno)));
  return {};
}

void RunServer::close_all() {
  conversations_.abort_all();
  listeners_.close_all();
  aborts_.close_all();
}

// -- Requests ------------------------------------------------------------------------------------------------------

void RunServer::let_in() {
  for (int i = 0; i < kGuestsAtOnce; ++i) {
    const int fd = ::accept4(door_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      loop_->change(door_.get(), 0);
      loop_->after(kDoorRest, [this] { loop_->change(door_.get(), EPOLLIN); });
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
  UniqueFd given;
  RunAnswer reply;
  const int code = receive_request(fd, call);
  if (code == EAGAIN) return;
  reply.error = !welcome ? EACCES : code != 0 ? code : answer(call, user, given, reply);
  ucred who = {};
  socklen_t length = sizeof who;
  const bool listens = reply.error == 0 && call.what == RunRequest::kListen;
  if (listens && ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0) listeners_.watch(who.pid, user, call.port);
  send_answer(fd, reply, reply.error == 0 ? given.get() : -1);
}

int RunServer::answer(const RunCall& call, uid_t user, UniqueFd& given, RunAnswer& answer) {
  const auto put = [](auto& field, std::string_view text) { text.substr(0, field.size() - 1).copy(field.data(), field.size() - 1); };
  switch (call.what) {
    case RunRequest::kInfo:
      answer.ip = hosts_.own_address();
      answer.network = settings_.network.base;
      answer.prefix = settings_.network.prefix;
      answer.storage = hosts_.storage_tag();
      answer.storages = settings_.storages;
      answer.flags = settings_.over_disk ? RunAnswer::kOverDisk : 0;
      put(answer.host, agent_.name());
      put(answer.stg, agent_.stg());
      return 0;
    case RunRequest::kResolve:
      answer.ip = hosts_.resolve(call.name.data(), settings_.number == 0);
      return answer.ip != 0 ? 0 : ENOENT;
    case RunRequest::kReverse: {
      const std::string name = hosts_.name_of(call.ip);
      if (name.empty()) return ENOENT;
      put(answer.host, settings_.number == 0 ? name + ".stp" : fmt::format("{}.{}.stp", name, agent_.stg()));
      return 0;
    }
    case RunRequest::kListen: return listeners_.listen(call, user);
    case RunRequest::kShare: return listeners_.share(call, user, given);
    case RunRequest::kUnshare: return listeners_.unshare(call);
    case RunRequest::kConnect: return connect(call, user, given);
    case RunRequest::kBehind: {
      const auto peer = listeners_.peer_behind(call.port, call.cookie);
      if (!peer) return ENOENT;
      answer.ip = peer->ip;
      answer.port = peer->port;
      return 0;
    }
    case RunRequest::kResetWhenClosed: {
      const bool on = (call.flags & RunCall::kOn) != 0;
      const int code = conversations_.reset_when_closed(call.name.data(), user, on);
      return code == ENOENT ? aborts_.set(call.name.data(), user, (call.flags & RunCall::kAccepter) != 0, on) : code;
    }
  }
  return EPROTO;
}

// -- Connecting ----------------------------------------------------------------------------------------------------

int RunServer::connect(const RunCall& call, uid_t user, UniqueFd& program) {
  if (call.port == 0) return EPROTO;
  if (call.own_port != 0 && call.own_port < kFirstFreePort && user != 0) return EACCES;
  if (!conversations_.has_room(user)) return ENOBUFS;
  const std::string host = hosts_.name_of(call.ip);
  if (host.empty()) return EHOSTUNREACH;
  if (settings_.over_disk) listeners_.give_up_if_gone(call.port);  // nobody was looked for
  if (call.ip == hosts_.own_address() && (call.flags & RunCall::kFull) == 0) listeners_.found_nobody(call.port);
  if (call.own_port != 0) listeners_.found_nobody(call.own_port);
  auto connecting = std::make_shared<Connecting>();
  connecting->user = user;
  if (!make_pair(connecting->program, connecting->mine)) return ENOBUFS;
  program.reset(::fcntl(connecting->program.get(), F_DUPFD_CLOEXEC, 0));
  if (!program) return ENOBUFS;
  connecting->peer = {call.ip, call.port};
  connecting->own_port = call.own_port;
  connecting->v6 = (call.flags & RunCall::kV6) != 0;
  connecting->resets = (call.flags & RunCall::kOn) != 0;
  connecting->socket.reset(STPsocket(AF_STP, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connecting->socket) return errno;
  const int socket = connecting->socket.get();
  if (call.own_port != 0) {
    const sockaddr_stp own = stp_address("", call.own_port);
    if (STPbind(socket, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) return errno;
  }
  const sockaddr_stp& there = connecting->there = stp_address(host, call.port);
  const int code = STPconnect(socket, reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0 ? 0 : errno;
  if (code == 0) {
    connected(*connecting);
    return 0;
  }
  if (code != EINPROGRESS) return code == EHOSTDOWN ? EHOSTUNREACH : code;
  connecting->writable = STPgetpollfd(socket, POLLOUT);
  const bool watched = connecting->writable >= 0 && loop_->watch(connecting->writable, EPOLLIN, [this, connecting](std::uint32_t) { look_at(connecting); });
  if (!watched) return ENOBUFS;
  if (call.timeout_ms != 0 && timed_ < kMostTimed) give_up_after(call.timeout_ms, connecting);
  return 0;
}

void RunServer::give_up_after(std::uint32_t ms, const std::shared_ptr<Connecting>& connecting) {
  ++timed_;
  loop_->after(std::chrono::milliseconds(std::min(ms, kLongestTimeoutMs)), [this, weak = std::weak_ptr(connecting)] {
    --timed_;
    const auto one = weak.lock();
    if (one == nullptr || !one->mine || !one->socket) return;
    loop_->forget(one->writable);
    failed(*one, ETIMEDOUT);
    one->socket.reset();
  });
}

void RunServer::look_at(const std::shared_ptr<Connecting>& connecting) {
  if (!connecting->socket) return;
  // The descriptor may ring for nothing; a second connect says how the first one stands.
  const sockaddr_stp& there = connecting->there;
  int code = STPconnect(connecting->socket.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) == 0 ? 0 : errno;
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
  (void)STPgetsockname(connecting.socket.get(), reinterpret_cast<sockaddr*>(&own), &length);
  const SocketName name{.kind = SocketName::Kind::kConnected,
                        .v6 = connecting.v6,
                        .local = {hosts_.own_address(), ntohs(own.stp_port)},
                        .peer = connecting.peer,
                        .tail = random_number()};
  char hello[run::kHelloBytes - 1];
  if (!bind_to(connecting.program.get(), name)) return failed(connecting, ENOBUFS);
  for (const int fd : {connecting.program.get(), connecting.mine.get()}) set_send_buffer(fd, kConversationBuffer);
  connecting.program.reset();
  // What the program said before it was connected, it did not say: it could not write.
  if (::recv(connecting.mine.get(), hello, sizeof hello, MSG_DONTWAIT) != static_cast<ssize_t>(sizeof hello)) return;
  conversations_.carry_on(std::move(connecting.mine), KernelSide::kUnixWithHead, std::move(connecting.socket), {}, connecting.user, name);
  if (connecting.resets) (void)conversations_.reset_when_closed(run::text_of(name), connecting.user, true);
}

void RunServer::failed(Connecting& connecting, int code) {
  SocketName name{.kind = SocketName::Kind::kFailed, .v6 = connecting.v6, .tail = static_cast<std::uint32_t>(code)};
  for (int i = 0; i < kTries; ++i) {
    name.local = {random_number(), connecting.own_port};  // no two sockets have the same name
    name.peer.ip = random_number();
    if (bind_to(connecting.program.get(), name)) break;
  }
  connecting.program.reset();
  connecting.mine.reset();
}

}  // namespace stp
