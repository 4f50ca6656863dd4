#include "tools/run_shares.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "tools/run_sockets.h"

namespace stp {

using run::SocketName;
using namespace std::chrono_literals;

namespace {

constexpr std::ptrdiff_t kMostPortsOfUser = 256;
constexpr std::size_t kMostPorts = 4096;
constexpr auto kTakesToBind = 1s;  // from the names to a socket at the port

// A socket is the user's whom the thread made it as; files are not touched meanwhile.
UniqueFd socket_of(uid_t user) {
  const bool other = user != ::geteuid();
  if (other) (void)::setfsuid(user);
  UniqueFd made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int code = errno;
  if (other) (void)::setfsuid(::geteuid());
  struct stat facts = {};
  errno = code;
  if (made && (::fstat(made.get(), &facts) != 0 || facts.st_uid != user)) {
    made.reset();
    errno = EPERM;
  }
  return made;
}

}  // namespace

int RunShares::make(std::uint16_t port, uid_t user) {
  const auto of_user = std::ranges::count_if(shares_, [user](const auto& known) { return known.second.user == user; });
  if (of_user >= kMostPortsOfUser || shares_.size() >= kMostPorts) return ENOBUFS;
  Share share;
  share.user = user;
  for (const bool v6 : {false, true}) {
    UniqueFd& name = share.names[v6 ? 1 : 0];
    name = socket_of(user);
    if (!name || !bind_to(name.get(), SocketName::listener({hosts_.own_address(), port}, v6, hosts_.storage_tag()))) return errno;
  }
  shares_[port] = std::move(share);
  return 0;
}

int RunShares::give(std::uint16_t port, bool v6, uid_t user, UniqueFd& copy) {
  if (port == 0) return EINVAL;
  if (port < run::kFirstFreePort && user != 0) return EACCES;
  if (!shares_.contains(port))
    if (const int code = make(port, user); code != 0) return code;
  Share& share = shares_[port];
  if (share.user != user) return EADDRINUSE;
  copy.reset(::fcntl(share.names[v6 ? 1 : 0].get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return ENOBUFS;
  share.given = EventLoop::Clock::now();
  share.seen = share.missed = false;
  return 0;
}

bool RunShares::in_use(const Share& share, const RunPort& port) const {
  return port.sharers.contains(share.user) || (!share.seen && EventLoop::Clock::now() - share.given < kTakesToBind);
}

void RunShares::look(const std::map<std::uint16_t, RunPort>& ports) {
  const RunPort kNone;
  for (auto known = shares_.begin(); known != shares_.end();) {
    Share& share = known->second;
    const auto there = ports.find(known->first);
    const RunPort& port = there != ports.end() ? there->second : kNone;
    share.seen |= port.sharers.contains(share.user);
    const bool unused = !in_use(share, port);
    known = std::exchange(share.missed, unused) && unused ? shares_.erase(known) : std::next(known);
  }
}

bool RunShares::give_up(std::uint16_t number) {
  const auto share = shares_.find(number);
  if (share == shares_.end()) return true;
  for (int look = 0; look < kRunPortLooks; ++look) {
    std::map<std::uint16_t, RunPort> ports;
    if (!read_run_ports(hosts_, ports)) return false;
    share->second.seen |= ports[number].sharers.contains(share->second.user);
    if (in_use(share->second, ports[number])) return false;
  }
  shares_.erase(share);
  return true;
}

}  // namespace stp
