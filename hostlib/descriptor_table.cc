#include "hostlib/descriptor_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace stp::host {
namespace {

// The marker stays out of the low numbers, where programs expect their own files (0, 1, 2 closed and opened again).
constexpr int kMarkerFrom = 3;

}  // namespace

std::expected<int, int> DescriptorTable::reserve(bool close_on_exec) {
  if (marker_ < 0) {
    const int made = ::memfd_create("stp-socket", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0) return std::unexpected(errno);
    struct stat facts = {};
    const int marker = ::fcntl(made, F_DUPFD_CLOEXEC, kMarkerFrom);
    const int code = errno;
    (void)::fcntl(made, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    (void)::close(made);
    if (marker < 0) return std::unexpected(code);
    if (::fstat(marker, &facts) != 0) {
      const int why = errno;
      (void)::close(marker);
      return std::unexpected(why);
    }
    marker_ = marker;
    marker_device_ = facts.st_dev;
    marker_inode_ = facts.st_ino;
  }
  const int fd = ::fcntl(marker_, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  if (fd >= 0 && still_ours(fd)) return fd;
  if (fd < 0 && errno != EBADF) return std::unexpected(errno);
  // The marker itself was closed behind our back (closefrom, close_range): sockets made before keep the old one's
  // number only if they too survived, which then look foreign. Begin anew.
  if (fd >= 0) (void)::close(fd);
  marker_ = -1;
  return reserve(close_on_exec);
}

std::shared_ptr<Socket> DescriptorTable::put(int fd, std::shared_ptr<Socket> socket) {
  const auto at = static_cast<std::size_t>(fd);
  if (at >= by_number_.size()) by_number_.resize(std::max(at + 1, 2 * by_number_.size()));
  socket->fd = fd;
  by_id_[socket->id] = socket;
  return std::exchange(by_number_[at], std::move(socket));
}

void DescriptorTable::drop(int fd) {
  if (still_ours(fd)) (void)::close(fd);
}

bool DescriptorTable::still_ours(int fd) const {
  struct stat facts = {};
  return ::fstat(fd, &facts) == 0 && facts.st_dev == marker_device_ && facts.st_ino == marker_inode_;
}

std::shared_ptr<Socket> DescriptorTable::remove(int fd) {
  std::shared_ptr<Socket> socket = share(fd);
  if (socket == nullptr) return nullptr;
  by_number_[static_cast<std::size_t>(fd)] = nullptr;
  socket->closed = true;
  drop(fd);
  return socket;
}

void DescriptorTable::change_id(Socket& socket, SocketId id) {
  auto node = by_id_.extract(socket.id);
  if (node.empty()) return;
  node.key() = id;
  socket.id = id;
  by_id_.insert(std::move(node));
}

std::vector<std::shared_ptr<Socket>> DescriptorTable::all() const {
  std::vector<std::shared_ptr<Socket>> sockets;
  for (const auto& socket : by_number_)
    if (socket != nullptr) sockets.push_back(socket);
  return sockets;
}

void DescriptorTable::close_poll_descriptors() {
  for (const auto& socket : by_number_) {
    if (socket == nullptr) continue;
    for (const PollDescriptor& descriptor : socket->poll_descriptors) (void)::close(descriptor.fd);
    socket->poll_descriptors.clear();
  }
}

}  // namespace stp::host
