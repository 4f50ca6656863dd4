// Descriptor numbers <-> sockets.
//
// A socket's number is a real descriptor: a duplicate of one sealed, empty memory file that only this table has, so that
// no file or other socket of the process can get the number, and so that we can tell whether the number is still ours. When the
// program closed it behind our back (close(2), closefrom), the number may by now be somebody else's: then the socket
// is gone, calls give EBADF, and the foreign file is left alone. Not thread-safe: used under the runtime's lock.
#pragma once

#include <sys/types.h>

#include <expected>
#include <memory>
#include <unordered_map>
#include <vector>

#include "hostlib/socket.h"

namespace stp::host {

class DescriptorTable {
 public:
  // A new number without a socket yet: EMFILE, ENFILE, ENOMEM. Give it to put() or back to drop().
  std::expected<int, int> reserve(bool close_on_exec);
  // A socket that still had the number (closed behind our back) is returned: the caller closes it in the engine.
  std::shared_ptr<Socket> put(int fd, std::shared_ptr<Socket> socket);
  void drop(int fd);

  // nullptr when the number is no socket of ours. Costs no system call.
  Socket* find(int fd) const {
    return fd >= 0 && static_cast<std::size_t>(fd) < by_number_.size() ? by_number_[static_cast<std::size_t>(fd)].get() : nullptr;
  }
  std::shared_ptr<Socket> share(int fd) const { return find(fd) != nullptr ? by_number_[static_cast<std::size_t>(fd)] : nullptr; }
  // Whether the number still is the descriptor that the table made (one fstat).
  bool still_ours(int fd) const;

  // Takes the socket out; the descriptor is closed if it still is ours. The socket stays known by its id.
  std::shared_ptr<Socket> remove(int fd);

  Socket* find_id(SocketId id) const {
    const auto found = by_id_.find(id);
    return found != by_id_.end() ? found->second.get() : nullptr;
  }
  void forget_id(SocketId id) { by_id_.erase(id); }
  // The engine's socket behind `socket` was exchanged for another.
  void change_id(Socket& socket, SocketId id);

  std::vector<std::shared_ptr<Socket>> all() const;
  // Of all sockets, those of STPgetpollfd. Async-signal-safe, in the child of a fork.
  void close_poll_descriptors();

 private:
  int marker_ = -1;
  dev_t marker_device_ = 0;
  ino_t marker_inode_ = 0;
  std::vector<std::shared_ptr<Socket>> by_number_;
  std::unordered_map<SocketId, std::shared_ptr<Socket>> by_id_;
};

}  // namespace stp::host
