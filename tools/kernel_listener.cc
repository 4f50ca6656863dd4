#include "tools/kernel_listener.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tools/name_resolver.h"

namespace stp::forward {
namespace {

constexpr int kKernelBacklog = 256;

std::unexpected<Error> cannot(int code, const std::string& where) {
  return fail(code, fmt::format("can not listen on {}: {}", where, std::strerror(code)));
}

// Makes room for a socket file: takes away what a dead program left.
Result<void> clear_path(const std::string& path) {
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) != 0) return {};
  if (!S_ISSOCK(facts.st_mode)) return fail(EEXIST, fmt::format("\"{}\" is there and is no socket; name another path", path));
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return cannot(errno, path);
  const SocketAddress address = unix_address(path);
  const bool answered = ::connect(probe.get(), address.get(), address.length) == 0;
  // EAGAIN is a full queue, EPROTOTYPE a socket of another kind: there is somebody. Only a refusal says that there is not.
  if (!answered && errno == ENOENT) return {};
  if (answered || errno != ECONNREFUSED)
    return fail(EADDRINUSE, fmt::format("another program answers on \"{}\"; stop it, or name another path", path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return fail(errno, fmt::format("can not replace \"{}\", which a dead program left: {}", path, std::strerror(errno)));
  return {};
}

}  // namespace

KernelListener::~KernelListener() {
  if (!fd_ || path_.empty()) return;
  struct stat facts = {};
  const bool still_mine = ::lstat(path_.c_str(), &facts) == 0 && facts.st_dev == device_ && facts.st_ino == inode_;
  if (still_mine) (void)::unlink(path_.c_str());
}

Result<KernelListener> KernelListener::open(const KernelAddress& address) {
  return address.path.empty() ? open_tcp(address) : open_unix(address.path);
}

Result<KernelListener> KernelListener::open_tcp(const KernelAddress& address) {
  // All addresses: one IPv6 socket takes both families, and where the kernel has no IPv6 one of IPv4.
  const auto candidates = numeric_addresses(address.host.empty() ? "::" : address.host, address.port, true);
  if (!candidates) return std::unexpected(candidates.error());
  const auto bind_to = [&](const SocketAddress& to) -> Result<KernelListener> {
    KernelListener out;
    out.fd_.reset(::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1, only_v6 = address.host.empty() ? 0 : 1;
    if (!out.fd_ || ::setsockopt(out.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return cannot(errno, to_string(address));
    if (to.storage.ss_family == AF_INET6) (void)::setsockopt(out.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
    if (::bind(out.fd(), to.get(), to.length) != 0 || ::listen(out.fd(), kKernelBacklog) != 0) return cannot(errno, to_string(address));
    return out;
  };
  auto listener = bind_to(candidates->front());
  if (listener || !address.host.empty() || (listener.error().code != EAFNOSUPPORT && listener.error().code != EADDRNOTAVAIL))
    return listener;
  const auto v4 = numeric_addresses("0.0.0.0", address.port, true);
  return v4 ? bind_to(v4->front()) : std::unexpected(v4.error());
}

Result<KernelListener> KernelListener::open_unix(const std::string& path) {
  if (auto room = clear_path(path); !room) return std::unexpected(room.error());
  KernelListener out;
  out.fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const SocketAddress address = unix_address(path);
  // The mode of the unbound socket is that of its file: there is no moment at which others could open it, and no umask is touched.
  if (!out.fd_ || ::fchmod(out.fd(), 0600) != 0 || ::bind(out.fd(), address.get(), address.length) != 0)
    return cannot(errno, path);
  out.path_ = path;
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) == 0) {
    out.device_ = facts.st_dev;
    out.inode_ = facts.st_ino;
  }
  if (::listen(out.fd(), kKernelBacklog) != 0) return cannot(errno, path);
  return out;
}

}  // namespace stp::forward
