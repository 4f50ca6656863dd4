#include "hostlib/run_protocol.h"

#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace stp::run {
namespace {

std::uint64_t hash_of(const char* text) {  // FNV-1a
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (; *text != 0; ++text) hash = (hash ^ static_cast<unsigned char>(*text)) * 0x100000001b3u;
  return hash;
}

int exchange(int fd, const RunCall& call, RunAnswer& answer, int* descriptor) {
  ssize_t n = 0;
  do n = ::send(fd, &call, sizeof call, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  if (n < 0 && errno != EPIPE) return errno;  // turned away: the answer lies there
  iovec piece = {.iov_base = &answer, .iov_len = sizeof answer};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  do n = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n == 0 || (n < 0 && errno == ECONNRESET)) return ENOENT;  // it ended
  if (n < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  int got = -1;
  if (head != nullptr && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof got))
    std::memcpy(&got, CMSG_DATA(head), sizeof got);
  const bool good = n == sizeof answer && answer.version == kRunVersion;
  answer.host.back() = answer.stg.back() = 0;
  const int code = !good ? EPROTO : answer.error != 0 ? answer.error : descriptor != nullptr && got < 0 ? EMFILE : 0;
  if (code == 0 && descriptor != nullptr)
    *descriptor = got;
  else if (got >= 0)
    (void)::close(got);
  return code;
}

}  // namespace

UnixName run_server_name(const char* agent_path, unsigned number) {
  UnixName out;
  out.address.sun_family = AF_UNIX;
  char* const at = out.address.sun_path + 1;
  constexpr char kMark[] = "stp-run:";
  std::memcpy(at, kMark, sizeof kMark - 1);
  std::size_t n = sizeof kMark - 1;
  for (int i = 15; i >= 0; --i) at[n++] = "0123456789abcdef"[(hash_of(agent_path) >> (4 * i)) & 15];
  if (number > 0) {
    at[n++] = '-';
    n = static_cast<std::size_t>(std::to_chars(at + n, out.address.sun_path + sizeof out.address.sun_path, number).ptr - at);
  }
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
  return out;
}

int ask_run_server(const UnixName& server, uid_t user, const RunCall& call, RunAnswer& answer, int* descriptor, int patience_s) {
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const timeval patience = {.tv_sec = patience_s, .tv_usec = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  ucred who = {};
  socklen_t length = sizeof who;
  int code = 0;
  if (::connect(fd, server.get(), server.length) != 0)
    code = errno == ECONNREFUSED ? ENOENT : errno;
  else if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 || (who.uid != 0 && who.uid != user))
    code = EPROTO;
  else
    code = exchange(fd, call, answer, descriptor);
  (void)::close(fd);
  return code;
}

Head head_of(const SocketName& name) {
  Head head;
  std::memcpy(head.data(), "stp-head", 8);
  std::memcpy(head.data() + 8, &name.tail, sizeof name.tail);
  return head;
}

int find_run_server(const std::string& agent_path, std::string& told) {
  const UnixName server = run_server_name(agent_path.c_str(), 0);
  const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ucred who = {};
  socklen_t length = sizeof who;
  const bool there = fd >= 0 && ::connect(fd, server.get(), server.length) == 0 && ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0;
  if (fd >= 0) (void)::close(fd);
  if (!there) return ENOENT;
  struct stat facts = {};
  const bool owner = ::stat(agent_path.c_str(), &facts) == 0 && facts.st_uid == who.uid;
  if (who.uid != 0 && who.uid != ::geteuid() && !owner) return EPERM;
  RunAnswer answer;
  if (const int code = ask_run_server(server, who.uid, {}, answer); code != 0) return code;
  told = agent_path;
  for (const std::uint32_t number : {who.uid, answer.network, answer.prefix, answer.flags, answer.ip, answer.storage}) told += "|" + std::to_string(number);
  for (unsigned i = 1; i < std::min(answer.storages, kMostStorages); ++i) {
    RunAnswer other;
    if (ask_run_server(run_server_name(agent_path.c_str(), i), who.uid, {}, other) != 0) other = {};
    told += "|" + std::to_string(other.ip) + "|" + std::to_string(other.storage);
  }
  return 0;
}

}  // namespace stp::run
