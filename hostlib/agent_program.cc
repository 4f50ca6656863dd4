#include "hostlib/agent_program.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace stp::host {
namespace {

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, younger than the headers of the oldest system that we build on

// Watched too, because a child of a fork may keep the connection of a program that died.
int pidfd_of(int fd, pid_t pid) {
  int pidfd = -1;
  socklen_t length = sizeof pidfd;
  if (::getsockopt(fd, SOL_SOCKET, kPeerPidfd, &pidfd, &length) == 0) return pidfd;
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

// The file behind a news board; -1 with errno.
int make_board() {
  const int fd = ::memfd_create("stp-news", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  if (::ftruncate(fd, kNewsBoardBytes) == 0 && ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) return fd;
  (void)::close(fd);
  return -1;
}

}  // namespace

AgentProgram::~AgentProgram() {
  for (const int fd : {fd_, pidfd_, bell_, agents_bell_})
    if (fd >= 0) (void)::close(fd);
  if (board_ != nullptr) (void)::munmap(board_, kNewsBoardBytes);
}

int AgentProgram::welcome(const AgentAnswer& answer, ConstBytes superblock, bool heir) {
  socklen_t length = sizeof who_;
  if (::getsockopt(fd_, SOL_SOCKET, SO_PEERCRED, &who_, &length) != 0) return errno;
  begun_ = !heir;
  if (!heir) pidfd_ = pidfd_of(fd_, who_.pid);
  agents_bell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int bells[2] = {-1, -1};
  if (agents_bell_ < 0 || ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bells) != 0) return EMFILE;
  bell_ = bells[0];
  Descriptors to_close;
  to_close.add(bells[1]);
  const int board = make_board();
  if (board < 0) return EMFILE;
  to_close.add(board);
  void* at = ::mmap(nullptr, kNewsBoardBytes, PROT_READ | PROT_WRITE, MAP_SHARED, board, 0);
  if (at == MAP_FAILED) return errno;
  board_ = static_cast<NewsBoard*>(at);
  const int given[] = {board, bells[1], agents_bell_};
  return send_answer(fd_, answer, given, superblock, MSG_DONTWAIT);
}

int AgentProgram::watch(int epoll) const {
  const auto add = [&](int fd, std::uint32_t events, Watched what) {
    epoll_event event = {};
    event.events = events | EPOLLET;
    event.data.u64 = serial_ | static_cast<std::uint64_t>(what) << 32;
    return fd < 0 || ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
  };
  const bool watched = add(fd_, EPOLLIN | EPOLLRDHUP, Watched::kConnection) && add(agents_bell_, EPOLLIN, Watched::kBell) &&
                       add(pidfd_, EPOLLIN, Watched::kProcess);
  return watched ? 0 : errno;
}

// The program may have kept descriptors of the same files: closing ours would leave them watched.
void AgentProgram::unwatch(int epoll) const {
  for (const int fd : {fd_, agents_bell_, pidfd_})
    if (fd >= 0) (void)::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
}

std::uint32_t AgentProgram::take(AgentSocket& socket) {
  if (free_indexes_.empty()) {
    free_indexes_.push_back(static_cast<std::uint32_t>(numbers_.size()));
    numbers_.push_back(0);
  }
  const std::uint32_t index = free_indexes_.back();
  free_indexes_.pop_back();
  numbers_[index] = socket.number;
  socket.holders.push_back({serial_, index});
  return index;
}

void AgentProgram::give_back(AgentSocket& socket) {
  const AgentSocket::Holder* const held = socket.holder(serial_);
  if (held == nullptr) return;
  numbers_[held->index] = 0;
  free_indexes_.push_back(held->index);
  socket.holders.erase(socket.holders.begin() + (held - socket.holders.data()));
}

void AgentProgram::tell(std::uint32_t index) {
  if (!board_->to_program.set(index)) return;
  // No room: it has not heard of what was told before.
  (void)::send(bell_, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace stp::host
