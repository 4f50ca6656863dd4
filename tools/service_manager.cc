#include "tools/service_manager.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace stp {

// The protocol is one datagram of a few lines; a library for that would be a dependency more.
ServiceManager::ServiceManager() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path != nullptr && (path[0] == '/' || path[0] == '@')) path_ = path;
  const char* span = std::getenv("WATCHDOG_USEC");
  const char* whose = std::getenv("WATCHDOG_PID");
  const bool mine = whose == nullptr || std::strtol(whose, nullptr, 10) == ::getpid();
  if (span != nullptr && mine) watchdog_us_ = std::strtoull(span, nullptr, 10);
}

int ServiceManager::watchdog_ms(int otherwise) const {
  if (watchdog_us_ == 0) return otherwise;
  return static_cast<int>(std::clamp<std::uint64_t>(watchdog_us_ / 2000, 1, static_cast<std::uint64_t>(otherwise)));
}

void ServiceManager::reloading() const {
  timespec now = {};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  tell(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1'000'000 + now.tv_nsec / 1000));
}

void ServiceManager::tell(std::string_view state) const {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path_.empty() || path_.size() >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (path_[0] == '@') address.sun_path[0] = 0;
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  (void)::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), length);
  (void)::close(fd);
}

}  // namespace stp
