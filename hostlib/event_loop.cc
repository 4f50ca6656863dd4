#include "hostlib/event_loop.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace stp {

Result<std::unique_ptr<EventLoop>> EventLoop::make() {
  std::unique_ptr<EventLoop> loop(new EventLoop);
  loop->epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  loop->bell_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  EventLoop* const self = loop.get();
  const bool good = loop->epoll_ && loop->bell_ && loop->watch(loop->bell_.get(), EPOLLIN, [self](std::uint32_t) {
    std::uint64_t count = 0;
    (void)!::read(self->bell_.get(), &count, sizeof count);
  });
  if (!good) return fail(errno, std::string("can not make an epoll or an eventfd: ") + std::strerror(errno));
  return loop;
}

bool EventLoop::watch(int fd, std::uint32_t events, Watcher watcher) {
  forget(fd);
  const std::uint64_t id = next_id_++;
  epoll_event event = {.events = events, .data = {.u64 = id}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return false;
  entries_[id] = {.fd = fd, .events = events, .watcher = std::make_shared<Watcher>(std::move(watcher))};
  id_of_fd_[fd] = id;
  return true;
}

void EventLoop::change(int fd, std::uint32_t events) {
  const auto it = id_of_fd_.find(fd);
  if (it == id_of_fd_.end()) return;
  Entry& entry = entries_.at(it->second);
  if (entry.events == events) return;
  entry.events = events;
  epoll_event event = {.events = events, .data = {.u64 = it->second}};
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::forget(int fd) {
  const auto it = id_of_fd_.find(fd);
  if (it == id_of_fd_.end()) return;
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  entries_.erase(it->second);
  id_of_fd_.erase(it);
}

void EventLoop::after(std::chrono::milliseconds span, Task task) { timers_.emplace(Clock::now() + span, std::move(task)); }

void EventLoop::soon(Task task) { soon_.push_back(std::move(task)); }

void EventLoop::post(Task task) {
  {
    std::lock_guard lock(mutex_);
    if (dropping_) return;
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  (void)!::write(bell_.get(), &one, sizeof one);
}

void EventLoop::stop() {
  post([this] { stopped_ = true; });
}

void EventLoop::call(std::uint64_t id, std::uint32_t events) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  const std::shared_ptr<Watcher> watcher = it->second.watcher;  // it may forget itself
  (*watcher)(events);
}

void EventLoop::run_posted() {
  std::vector<Task> tasks;
  {
    std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (const Task& task : tasks) task();
}

int EventLoop::wait_ms() const {
  if (!soon_.empty()) return 0;
  if (timers_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60'000));
}

void EventLoop::run() {
  std::array<epoll_event, 128> events;
  while (!stopped_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), wait_ms());
    for (int i = 0; i < count; ++i) call(events[static_cast<std::size_t>(i)].data.u64, events[static_cast<std::size_t>(i)].events);
    run_posted();
    for (const Task& task : std::exchange(soon_, {})) task();
    while (!timers_.empty() && timers_.begin()->first <= Clock::now()) {
      const Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      task();
    }
  }
}

void EventLoop::let_go() {
  std::vector<Task> posted;  // let go without the lock: their end may post again
  {
    std::lock_guard lock(mutex_);
    dropping_ = true;
    posted.swap(posted_);
  }
  const auto timers = std::exchange(timers_, {});
  const auto soon = std::exchange(soon_, {});
}

}  // namespace stp
