// STPpoll, STPselect, STPgetpollfd.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <vector>

#include "hostlib/call.h"
#include "hostlib/deadline.h"
#include "hostlib/fork_guard.h"
#include "hostlib/readiness.h"
#include "hostlib/stp.h"

namespace stp::host {
namespace {

constexpr short kReadable = POLLIN | POLLRDNORM;
constexpr short kWritable = POLLOUT | POLLWRNORM;

// What wakes a thread out of poll(2). One a thread, made when first needed.
class Bell {
 public:
  Bell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), generation_(fork_generation()) {}
  ~Bell() {
    if (fd_ >= 0) (void)::close(fd_);
  }
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;
  int fd() const { return fd_; }
  void silence() {
    if (generation_ != fork_generation()) renew();  // this one is the parent's
    std::uint64_t count = 0;
    (void)!::read(fd_, &count, sizeof count);
  }

 private:
  void renew() {
    if (fd_ >= 0) (void)::close(fd_);
    fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    generation_ = fork_generation();
  }
  int fd_;
  unsigned generation_;
};

// The descriptors of one call, sorted into ours and the kernel's. Most calls find something, or do not wait: only one that sleeps, and lets go
// of the lock for that, sees to it that its sockets stay.
class PollSet {
 public:
  PollSet(std::span<pollfd> all, const DescriptorTable& table) : all_(all), table_(table) {
    ours_.reserve(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].revents = 0;
      if (Socket* const socket = table.find(all[i].fd); socket != nullptr)
        ours_.push_back({socket, i});
      else if (all[i].fd >= 0)
        others_.push_back(i);
    }
  }

  bool any_of_ours() const { return !ours_.empty(); }
  bool any_of_others() const { return !others_.empty(); }
  // Before the lock is let go.
  std::span<Watch> watches() {
    if (!watches_.empty()) return watches_;
    watches_.reserve(ours_.size());
    kept_.reserve(ours_.size());
    for (const Ours& ours : ours_) {
      watches_.push_back({.socket = ours.socket, .bits = bits_for(all_[ours.at].events)});
      kept_.push_back(table_.share(ours.socket->fd));
    }
    return watches_;
  }

  int look_at_ours(SocketCalls& sockets, Afterwards afterwards) {
    int count = 0;
    for (const Ours& ours : ours_) {
      pollfd& descriptor = all_[ours.at];
      const short now = ours.socket->closed || ours.socket->gone != Reason::kNone ? static_cast<short>(POLLNVAL) : readiness(sockets, *ours.socket, afterwards);
      descriptor.revents = static_cast<short>(now & (descriptor.events | POLLERR | POLLHUP | POLLNVAL));
      count += descriptor.revents != 0;
    }
    return count;
  }

  // poll(2) over the others, and over `bell` if there is one (>= 0). How many are ready; -1 with errno.
  int look_at_others(Nanos span, int bell) {
    std::vector<pollfd> given;
    given.reserve(others_.size() + 1);
    for (const std::size_t at : others_) given.push_back(all_[at]);
    if (bell >= 0) given.push_back({.fd = bell, .events = POLLIN, .revents = 0});
    const timespec timeout{.tv_sec = span / kSecond, .tv_nsec = span % kSecond};
    if (::ppoll(given.data(), given.size(), span == kNever ? nullptr : &timeout, nullptr) < 0) return -1;
    int count = 0;
    for (std::size_t i = 0; i < others_.size(); ++i) {
      all_[others_[i]].revents = given[i].revents;
      count += given[i].revents != 0;
    }
    return count;
  }

 private:
  struct Ours {
    Socket* socket;
    std::size_t at;
  };
  std::span<pollfd> all_;
  const DescriptorTable& table_;
  std::vector<Ours> ours_;
  std::vector<std::size_t> others_;
  std::vector<Watch> watches_;
  std::vector<std::shared_ptr<Socket>> kept_;
};

// Sleeps until something may have become true. 0, or an errno.
int sleep_on(Call& call, PollSet& set, Nanos deadline) {
  if (!set.any_of_others()) return call.waiting().wait_any(call.lock(), set.watches(), deadline) == Woken::kInterrupted ? EINTR : 0;
  static thread_local Bell bell;
  bell.silence();
  if (bell.fd() < 0) return EMFILE;
  const auto bystander = call.waiting().stand_by(set.watches(), bell.fd());
  call.lock().unlock();
  const Nanos now = boottime_now();
  const int count = set.look_at_others(deadline == kNever ? kNever : std::max<Nanos>(deadline - now, 0), bell.fd());
  const int code = count < 0 ? errno : 0;
  call.lock().lock();
  return code;
}

int poll_sockets(Call& call, PollSet& set, Nanos deadline) {
  for (bool first = true;; first = false) {
    const Nanos now = boottime_now();
    if (first) call.waiting().step(now);
    int count = set.look_at_ours(call.sockets(), Afterwards::kNothing);
    if (count == 0 && now < deadline) count = set.look_at_ours(call.sockets(), Afterwards::kTell);
    const bool last = count > 0 || now >= deadline;
    if (set.any_of_others()) {
      const int others = set.look_at_others(0, -1);
      if (others < 0) return call.fail(errno);
      count += others;
    }
    if (count > 0 || last) return count;
    if (const int code = sleep_on(call, set, deadline); code != 0) return call.fail(code);
  }
}

int poll_any(std::span<pollfd> descriptors, Nanos span) {
  Call call("poll");
  if (!call.good()) return -1;
  PollSet set(descriptors, call.runtime().table());
  if (call.runtime().host() == nullptr || !set.any_of_ours()) {
    call.lock().unlock();
    return set.look_at_others(span, -1);
  }
  return poll_sockets(call, set, after(boottime_now(), span));
}

bool is_in(int fd, const fd_set* set) { return set != nullptr && FD_ISSET(fd, set); }

std::vector<pollfd> poll_list(int count, const fd_set* readable, const fd_set* writable, const fd_set* exceptional) {
  std::vector<pollfd> list;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (is_in(fd, readable)) events |= kReadable;
    if (is_in(fd, writable)) events |= kWritable;
    if (is_in(fd, exceptional)) events |= POLLPRI;
    if (events != 0) list.push_back({.fd = fd, .events = events, .revents = 0});
  }
  return list;
}

// Writes the sets anew; how many bits are set. A bit stays where the call would not block: an end and an error count as readable.
int fill_sets(const std::vector<pollfd>& list, fd_set* readable, fd_set* writable, fd_set* exceptional) {
  int count = 0;
  for (fd_set* set : {readable, writable, exceptional})
    if (set != nullptr) FD_ZERO(set);
  const auto mark = [&count](const pollfd& p, short asked, short given, fd_set* set) {
    if ((p.events & asked) == 0 || (p.revents & given) == 0) return;
    FD_SET(p.fd, set);
    ++count;
  };
  for (const pollfd& p : list) {
    mark(p, kReadable, kReadable | POLLHUP | POLLERR, readable);
    mark(p, kWritable, kWritable | POLLERR, writable);
    mark(p, POLLPRI, POLLPRI, exceptional);
  }
  return count;
}

}  // namespace
}  // namespace stp::host

int STPpoll(struct pollfd* descriptors, nfds_t count, int timeout_ms) {
  if (descriptors == nullptr && count > 0) {
    errno = EFAULT;
    return -1;
  }
  return stp::host::poll_any({descriptors, count}, timeout_ms < 0 ? stp::kNever : timeout_ms * stp::kMillisecond);
}

int STPselect(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, struct timeval* timeout) {
  const bool bad_time = timeout != nullptr && (timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_usec >= 1'000'000);
  if (count < 0 || count > FD_SETSIZE || bad_time) {
    errno = EINVAL;
    return -1;
  }
  const stp::Nanos began = stp::boottime_now();
  stp::Nanos span = stp::kNever;
  if (timeout != nullptr && timeout->tv_sec < stp::kNever / stp::kSecond) span = timeout->tv_sec * stp::kSecond + timeout->tv_usec * 1000;
  auto list = stp::host::poll_list(count, readable, writable, exceptional);
  const int ready = stp::host::poll_any(list, span);
  if (timeout != nullptr && span != stp::kNever) {
    const stp::Nanos left = std::max<stp::Nanos>(0, span - (stp::boottime_now() - began));
    *timeout = {.tv_sec = static_cast<time_t>(left / stp::kSecond), .tv_usec = static_cast<suseconds_t>(left % stp::kSecond / 1000)};
  }
  if (ready < 0) return -1;
  if (std::ranges::any_of(list, [](const pollfd& p) { return (p.revents & POLLNVAL) != 0; })) {
    errno = EBADF;
    return -1;
  }
  return stp::host::fill_sets(list, readable, writable, exceptional);
}

int STPgetpollfd(int s, short events) {
  stp::host::Call call("show the readiness of", s, stp::host::Call::Check::kDescriptor);
  if (!call.good()) return -1;
  if ((events & ~(POLLIN | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM)) != 0) return call.fail(EINVAL);
  const int fd = stp::host::readiness_descriptor(call.sockets(), call.socket(), events);
  return fd >= 0 ? fd : call.fail(-fd);
}
