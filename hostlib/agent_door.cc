#include "hostlib/agent_door.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "stp/system.h"

namespace stp::host {
namespace {

constexpr Nanos kHelloWithin = 2 * kSecond;
constexpr Nanos kRest = 100 * kMillisecond;  // when there is no room for one more program
constexpr int kPeerGroups = 59;  // SO_PEERGROUPS

// The path is there when somebody listens, and not a moment before: a program that finds nobody behind it goes without an agent.
bool put_in_place(const std::string& first_path, const std::string& path) {
  if (::renameat2(AT_FDCWD, first_path.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) return true;
  return errno == EINVAL && ::rename(first_path.c_str(), path.c_str()) == 0;  // a file system that can not promise to replace nobody's
}

bool contains_any(const std::vector<gid_t>& wanted, const std::vector<gid_t>& groups) {
  return std::ranges::any_of(groups, [&](gid_t group) { return std::ranges::find(wanted, group) != wanted.end(); });
}

}  // namespace

std::vector<gid_t> groups_of_peer(int fd, gid_t first) {
  std::vector<gid_t> groups(256);
  socklen_t length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (::getsockopt(fd, SOL_SOCKET, kPeerGroups, groups.data(), &length) == 0)
    groups.resize(length / sizeof(gid_t));
  else
    groups.clear();
  groups.push_back(first);
  return groups;
}

bool AgentAccess::allows(uid_t user, const std::vector<gid_t>& groups) const {
  if (std::ranges::find(deny_users, user) != deny_users.end() || contains_any(deny_groups, groups)) return false;
  if (allow_users.empty() && allow_groups.empty()) return true;
  return std::ranges::find(allow_users, user) != allow_users.end() || contains_any(allow_groups, groups);
}

Result<std::unique_ptr<AgentDoor>> AgentDoor::open(const std::string& path, mode_t mode) {
  sockaddr_un address = {}, first = {};
  address.sun_family = first.sun_family = AF_UNIX;
  const std::string first_path = fmt::format("{}.{}", path, ::getpid());
  if (first_path.size() >= sizeof first.sun_path) return fail(ENAMETOOLONG, fmt::format("the path \"{}\" is too long for a Unix socket", path));
  path.copy(address.sun_path, path.size());
  first_path.copy(first.sun_path, first_path.size());
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  std::unique_ptr<AgentDoor> door(new AgentDoor);
  door->fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (door->fd_ < 0) return fail(errno, fmt::format("can not make a Unix socket: {}", std::strerror(errno)));
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) == 0) {
    if (!S_ISSOCK(facts.st_mode)) return fail(EEXIST, fmt::format("\"{}\" is there and is no socket; name another path", path));
    const int probe = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const bool answered = probe >= 0 && ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    if (probe >= 0) (void)::close(probe);
    if (answered) return fail(EADDRINUSE, fmt::format("another agent answers on \"{}\"; stop it, or name another path", path));
    (void)::unlink(path.c_str());
  }
  (void)::unlink(first_path.c_str());
  const mode_t before = ::umask(0777 & ~mode);
  const bool bound = ::bind(door->fd_, reinterpret_cast<const sockaddr*>(&first), sizeof first) == 0;
  const int code = errno;
  (void)::umask(before);
  if (!bound || ::listen(door->fd_, 256) != 0 || !put_in_place(first_path, path)) {
    const int why = bound ? errno : code;
    if (bound) (void)::unlink(first_path.c_str());
    return fail(why, fmt::format("can not listen on \"{}\": {}", path, std::strerror(why)));
  }
  door->path_ = path;
  if (::lstat(path.c_str(), &facts) == 0) {
    door->device_ = facts.st_dev;
    door->inode_ = facts.st_ino;
  }
  return door;
}

AgentDoor::~AgentDoor() {
  for (const Guest& guest : guests_) (void)::close(guest.fd);
  if (fd_ >= 0) (void)::close(fd_);
  struct stat facts = {};
  const bool still_mine = !path_.empty() && ::lstat(path_.c_str(), &facts) == 0 && facts.st_dev == device_ && facts.st_ino == inode_;
  if (still_mine) (void)::unlink(path_.c_str());
}

void AgentDoor::let_in() {
  while (guests_.size() < kMostGuests) {
    const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) closed_until_ = boottime_now() + kRest;
      return;
    }
    guests_.push_back({.fd = fd, .until = boottime_now() + kHelloWithin});
  }
}

// True when the guest is served, or turned away.
bool AgentDoor::greet(Guest& guest, const std::vector<std::unique_ptr<Agent>>& agents, const std::function<void(std::string_view)>& log) {
  AgentCall hello;
  const int code = receive_call(guest.fd, hello, MSG_DONTWAIT);
  if (code == EAGAIN && boottime_now() < guest.until) return false;
  ucred who = {};
  socklen_t length = sizeof who;
  AgentAnswer refusal;
  if (code != 0 || hello.what != AgentRequest::kHello || ::getsockopt(guest.fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) {
    (void)::close(guest.fd);
    return true;
  }
  const bool own = who.pid == ::getpid();  // serves unmodified programs, who were asked already
  if (!own && !access_.allows(who.uid, groups_of_peer(guest.fd, who.gid))) {
    log(fmt::format("user {} (program {}) may not use this agent", who.uid, who.pid));
    refusal.error = EACCES;
  } else {
    const auto agent = std::ranges::find_if(agents, [&](const auto& each) { return each->serves(hello); });
    if (agent != agents.end()) {
      (*agent)->adopt(guest.fd, hello);
      return true;
    }
    refusal.error = ENOENT;
    refusal.reason = static_cast<std::uint32_t>(Reason::kOtherStg);
  }
  (void)send_answer(guest.fd, refusal, {}, {}, MSG_DONTWAIT);
  (void)::close(guest.fd);
  return true;
}

void AgentDoor::serve(const std::vector<std::unique_ptr<Agent>>& agents, int wake, int longest_ms, const std::function<void(std::string_view)>& log) {
  const Nanos end = boottime_now() + longest_ms * kMillisecond;
  for (;;) {
    std::vector<pollfd> waits = {{wake, POLLIN, 0}, {guests_.size() < kMostGuests && boottime_now() >= closed_until_ ? fd_ : -1, POLLIN, 0}};
    Nanos until = closed_until_ > boottime_now() ? std::min(end, closed_until_) : end;
    for (const Guest& guest : guests_) {
      waits.push_back({guest.fd, POLLIN, 0});
      until = std::min(until, guest.until);
    }
    const Nanos left = std::max<Nanos>(0, until - boottime_now());
    (void)::poll(waits.data(), waits.size(), static_cast<int>((left + kMillisecond - 1) / kMillisecond));
    std::erase_if(guests_, [&](Guest& guest) { return greet(guest, agents, log); });
    if ((waits[1].revents & POLLIN) != 0) let_in();
    if ((waits[0].revents & POLLIN) != 0 || boottime_now() >= end) return;
  }
}

}  // namespace stp::host
