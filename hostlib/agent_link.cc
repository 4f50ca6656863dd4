#include "hostlib/agent_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace stp::host {
namespace {

// The board's file must be as large as it is taken for: a smaller one would kill the program at the first touch.
NewsBoard* map_board(int fd) {
  struct stat facts = {};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(fd, &facts) != 0 || facts.st_size < static_cast<off_t>(kNewsBoardBytes)) return nullptr;
  void* at = ::mmap(nullptr, kNewsBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return at == MAP_FAILED ? nullptr : static_cast<NewsBoard*>(at);
}

// All eventfds of a kernel share one inode: that much can be told of them.
std::uint64_t inode_of(int fd) {
  struct stat facts = {};
  return ::fstat(fd, &facts) == 0 ? facts.st_ino : 0;
}

}  // namespace

Result<std::shared_ptr<AgentLink>> AgentLink::connect(const Wanted& wanted) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (wanted.agent_path.size() >= sizeof address.sun_path)
    return fail(ENAMETOOLONG, fmt::format("the path \"{}\" is too long for a Unix socket", wanted.agent_path));
  std::memcpy(address.sun_path, wanted.agent_path.data(), wanted.agent_path.size());
  std::shared_ptr<AgentLink> link(new AgentLink);
  link->fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (link->fd_ < 0) return fail(errno, fmt::format("can not make a Unix socket: {}", std::strerror(errno)));
  link->set_patience(wanted.patience_ms);
  if (::connect(link->fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return fail(errno, fmt::format("no agent answers on \"{}\": {}", wanted.agent_path, std::strerror(errno)));
  if (auto greeted = link->hello(wanted); !greeted) return std::unexpected(greeted.error());
  return link;
}

Result<void> AgentLink::hello(const Wanted& wanted) {
  AgentCall call;
  call.what = AgentRequest::kHello;
  call.version = kAgentProtocolVersion;
  if (wanted.parent != 0) call.flags = AgentCall::kHeir;
  call.number = wanted.parent;
  call.token = wanted.parents_token;
  put_text(call.host, wanted.host);
  put_text(call.path, wanted.stg_path);
  struct stat facts = {};
  if (!wanted.stg_path.empty() && ::stat(wanted.stg_path.c_str(), &facts) == 0) {
    const bool device = S_ISBLK(facts.st_mode);
    call.device = device ? facts.st_rdev : facts.st_dev;
    call.inode = device ? 0 : facts.st_ino;
  }
  auto reply = ask(call);
  if (!reply) {
    const std::string words = reply.error().reason == Reason::kNone ? std::strerror(reply.error().code) : std::string(describe(reply.error().reason));
    return fail(reply.error().code, fmt::format("the agent on \"{}\" does not serve this program: {}", wanted.agent_path, words));
  }
  auto superblock = decode_superblock(reply->tail);
  if (!superblock || reply->descriptors->size() != 3) return fail(EPROTO, fmt::format("what answers on \"{}\" is no agent of this version", wanted.agent_path));
  superblock_ = std::move(*superblock);
  own_name_ = get_text(reply->answer.host);
  serial_ = reply->answer.socket;
  agents_life_ = reply->answer.life;
  board_ = map_board(reply->descriptors->at(0));
  if (board_ == nullptr) return fail(EPROTO, fmt::format("what answers on \"{}\" is no agent of this version", wanted.agent_path));
  bell_ = reply->descriptors->take(1);
  agents_bell_ = reply->descriptors->take(2);
  for (std::size_t i = 0; i < 3; ++i) inodes_[i] = inode_of(i == 0 ? fd_ : i == 1 ? bell_ : agents_bell_);
  return {};
}

AgentLink::~AgentLink() {
  if (board_ != nullptr) (void)::munmap(board_, kNewsBoardBytes);
  abandon();
}

void AgentLink::abandon() {
  for (int* fd : {&fd_, &bell_, &agents_bell_})
    if (*fd >= 0) (void)::close(std::exchange(*fd, -1));
}

SocketResult<AgentLink::Reply> AgentLink::ask(const AgentCall& call) {
  Reply reply{.answer = {}, .descriptors = std::make_unique<Descriptors>(), .tail = {}};
  if (dead()) return std::unexpected(SocketError{ECONNRESET, Reason::kAgentGone});
  int code = send_call(fd_, call, 0);
  if (code == 0) code = receive_answer(fd_, reply.answer, *reply.descriptors, reply.tail, 0);
  if (code == EMFILE) {
    if (call.what == AgentRequest::kTake)
      put_back(reply.answer.socket);
    else if (call.what == AgentRequest::kOpen || call.what == AgentRequest::kAccept)
      give_back(reply.answer.socket);
    return std::unexpected(SocketError{EMFILE, Reason::kNone});
  }
  if (code != 0) {
    // Also after a timeout: an answer that comes late would be taken for that of the next request.
    die();
    (void)::shutdown(fd_, SHUT_RDWR);
    return std::unexpected(SocketError{ECONNRESET, Reason::kAgentGone});
  }
  if (reply.answer.error != 0) return std::unexpected(SocketError{reply.answer.error, static_cast<Reason>(reply.answer.reason)});
  return reply;
}

bool AgentLink::tell(const AgentCall& call) {
  if (dead()) return false;
  if (send_call(fd_, call, 0) == 0) return true;
  die();
  (void)::shutdown(fd_, SHUT_RDWR);
  return false;
}

void AgentLink::give_back(std::uint32_t socket) {
  if (socket == 0) return;
  AgentCall call;
  call.socket = socket;
  call.what = AgentRequest::kClose;
  call.flags = AgentCall::kAbort;
  (void)ask(call);
  call.what = AgentRequest::kForget;
  (void)tell(call);
}

void AgentLink::set_patience(unsigned ms) {
  const timeval patience = {.tv_sec = ms / 1000, .tv_usec = static_cast<suseconds_t>(ms % 1000 * 1000)};
  (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

void AgentLink::put_back(std::uint32_t socket) {
  AgentCall call;
  call.what = AgentRequest::kGive;
  call.flags = AgentCall::kPutBack;
  call.socket = socket;
  call.number = serial_;
  call.token = agents_life_;
  if (!ask(call)) give_back(socket);
}

bool AgentLink::still_ours() const {
  const int fds[] = {fd_, bell_, agents_bell_};
  for (std::size_t i = 0; i < 3; ++i)
    if (fds[i] < 0 || inode_of(fds[i]) != inodes_[i]) return false;
  return true;
}

bool AgentLink::room_for_descriptors() const {
  const int spare = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (spare < 0) return false;
  (void)::close(spare);
  return true;
}

void AgentLink::tell_agent(std::uint32_t index) {
  if (!board_->to_agent.set(index)) return;
  const std::uint64_t one = 1;
  (void)!::write(agents_bell_, &one, sizeof one);
}

}  // namespace stp::host
