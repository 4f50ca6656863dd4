#include "fuse/events.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <list>
#include <thread>

#include "fuse/news.h"
#include "hostlib/quiet_thread.h"
#include "stp/system.h"

namespace stp::view {
namespace {

std::string now_text() {
  const std::uint64_t ms = wall_clock_ms();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

}  // namespace

class EventsFile;

class EventFeed : public std::enable_shared_from_this<EventFeed> {
 public:
  EventFeed(std::shared_ptr<View> view, EventSettings settings) : view_(std::move(view)), settings_(settings) {}

  void open(const std::shared_ptr<OpenRequest>& request);
  void close(EventsFile& file);
  bool stop(Nanos patience);
  std::mutex& mutex() { return mutex_; }
  const EventSettings& settings() const { return settings_; }

 private:
  struct Opening {
    std::shared_ptr<OpenRequest> request;
    std::shared_ptr<EventsFile> file;
    std::chrono::steady_clock::time_point until;
  };
  void run();
  void watch_openings();
  void give_up(const std::shared_ptr<EventsFile>& file, int code);
  void tell(const std::vector<std::string>& news);

  const std::shared_ptr<View> view_;
  const EventSettings settings_;
  std::mutex mutex_;
  std::condition_variable changed_, to_be_watched_;
  std::list<std::shared_ptr<EventsFile>> files_;
  std::vector<Opening> opening_;  // until the first look is done; by `until`
  bool looking_ = false;          // there was a first look since somebody listens
  bool stopping_ = false;
  bool running_ = false;
  std::thread thread_, watch_thread_;
};

// One open /events. Under the feed's lock.
class EventsFile final : public OpenFile, public std::enable_shared_from_this<EventsFile> {
 public:
  explicit EventsFile(std::shared_ptr<EventFeed> feed) : feed_(std::move(feed)) {}

  void read(std::shared_ptr<Request> request, std::size_t size, int flags) override;
  std::uint32_t poll(std::shared_ptr<Waker> waker) override {
    std::lock_guard lock(feed_->mutex());
    if (waker != nullptr) waker_ = std::move(waker);
    return bits();
  }
  void release() override { feed_->close(*this); }

  // With the lock. (To answer takes no lock that anybody holds while he wants ours.)
  void add(const std::string& line);
  void end(int code);

 private:
  struct Waiter {
    std::shared_ptr<Request> request;
    std::size_t size = 0;
    bool interrupted = false;
  };
  std::uint32_t bits() const { return over_ ? POLLIN | POLLERR : text_.empty() ? 0 : POLLIN | POLLRDNORM; }
  std::string take(std::size_t size);
  void interrupt(const std::shared_ptr<Waiter>& waiter);

  const std::shared_ptr<EventFeed> feed_;
  std::string text_;
  std::size_t lost_ = 0;  // lines, since the last one that is there
  int over_ = 0;
  std::deque<std::shared_ptr<Waiter>> waiters_;
  std::shared_ptr<Waker> waker_;
};

// Whole lines, unless not even one fits.
std::string EventsFile::take(std::size_t size) {
  std::size_t end = std::min(size, text_.size());
  if (end < text_.size()) {
    const std::size_t line = text_.rfind('\n', end - 1);
    if (end > 0 && line != std::string::npos) end = line + 1;
  }
  std::string taken = text_.substr(0, end);
  text_.erase(0, end);
  return taken;
}

void EventsFile::read(std::shared_ptr<Request> request, std::size_t size, int flags) {
  std::unique_lock lock(feed_->mutex());
  if (!text_.empty() || size == 0) {
    const std::string text = take(size);
    lock.unlock();
    return request->data(std::as_bytes(std::span(text)));
  }
  if (over_ != 0) return request->error(over_);
  if ((flags & O_NONBLOCK) != 0) return request->error(EAGAIN);
  lock.unlock();
  const auto waiter = std::make_shared<Waiter>(Waiter{.request = request, .size = size});
  const std::weak_ptr<EventsFile> self = weak_from_this();
  const bool may_wait = request->on_interrupt([self, waiter] {
    if (const auto file = self.lock()) file->interrupt(waiter);
  });
  lock.lock();
  if (!may_wait || waiter->interrupted) return request->error(EINTR);
  if (!text_.empty()) {
    const std::string text = take(size);
    return request->data(std::as_bytes(std::span(text)));
  }
  if (over_ != 0) return request->error(over_);
  waiters_.push_back(waiter);
}

void EventsFile::interrupt(const std::shared_ptr<Waiter>& waiter) {
  std::lock_guard lock(feed_->mutex());
  waiter->interrupted = true;
  const auto it = std::ranges::find(waiters_, waiter);
  if (it == waiters_.end()) return;
  waiters_.erase(it);
  waiter->request->error(EINTR);
}

void EventsFile::add(const std::string& line) {
  if (text_.size() + line.size() > feed_->settings().most_bytes) {
    ++lost_;
    return;
  }
  if (lost_ > 0) text_ += fmt::format("{} events lost {}: nobody read them\n", now_text(), std::exchange(lost_, 0));
  text_ += line;
  while (!waiters_.empty() && !text_.empty()) {
    const std::shared_ptr<Waiter> waiter = std::move(waiters_.front());
    waiters_.pop_front();
    const std::string text = take(waiter->size);
    waiter->request->data(std::as_bytes(std::span(text)));
  }
  if (auto waker = std::exchange(waker_, nullptr)) waker->wake();
}

void EventsFile::end(int code) {
  over_ = code;
  for (const auto& waiter : waiters_) waiter->request->error(code);
  waiters_.clear();
  if (auto waker = std::exchange(waker_, nullptr)) waker->wake();
}

void EventFeed::open(const std::shared_ptr<OpenRequest>& request) {
  auto file = std::make_shared<EventsFile>(shared_from_this());
  {
    std::unique_lock lock(mutex_);
    if (stopping_) return request->error(ENODEV);
    if (!watch_thread_.joinable() && !host::start_quiet_thread(watch_thread_, [self = shared_from_this()] { self->watch_openings(); }))
      return request->error(EAGAIN);
    if (!running_) {
      running_ = host::start_quiet_thread(thread_, [self = shared_from_this()] { self->run(); });
      if (!running_) return request->error(EAGAIN);
    }
    files_.push_back(file);
    if (!looking_) {
      opening_.push_back({request, file, std::chrono::steady_clock::now() + std::chrono::nanoseconds(settings_.deadline)});
      changed_.notify_all();
      to_be_watched_.notify_all();
      lock.unlock();
      // Whoever was hit before this is known finds out here.
      const bool may_wait = request->on_interrupt([feed = weak_from_this(), weak = std::weak_ptr(file)] {
        const auto self = feed.lock();
        if (const auto hit = weak.lock(); self != nullptr && hit != nullptr) self->give_up(hit, EINTR);
      });
      if (!may_wait) give_up(file, EINTR);
      return;
    }
  }
  (void)request->opened(std::move(file));
}

// Nothing when its open was answered.
void EventFeed::give_up(const std::shared_ptr<EventsFile>& file, int code) {
  std::shared_ptr<OpenRequest> request;
  {
    std::lock_guard lock(mutex_);
    const auto it = std::ranges::find(opening_, file, &Opening::file);
    if (it == opening_.end()) return;
    request = std::move(it->request);
    opening_.erase(it);
    std::erase(files_, file);
  }
  request->error(code);
}

// The look may hang in the storage: who waits for the first one is told when that takes too long.
void EventFeed::watch_openings() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (opening_.empty()) {
      to_be_watched_.wait(lock);
    } else if (const auto until = opening_.front().until; std::chrono::steady_clock::now() < until) {
      to_be_watched_.wait_until(lock, until);
    } else {
      const std::shared_ptr<EventsFile> file = opening_.front().file;
      lock.unlock();
      give_up(file, ETIMEDOUT);
      lock.lock();
    }
  }
}

void EventFeed::close(EventsFile& file) {
  std::shared_ptr<EventsFile> last;  // let go without the lock
  std::lock_guard lock(mutex_);
  file.end(EBADF);
  const auto it = std::ranges::find_if(files_, [&](const auto& each) { return each.get() == &file; });
  if (it == files_.end()) return;
  last = std::move(*it);
  files_.erase(it);
  if (files_.empty()) changed_.notify_all();
}

void EventFeed::tell(const std::vector<std::string>& news) {
  const std::string time = now_text();
  for (const std::string& each : news) {
    const std::string line = fmt::format("{} {}\n", time, each);
    for (const auto& file : files_) file->add(line);
  }
}

void EventFeed::run() {
  std::unique_lock lock(mutex_);
  std::unique_ptr<NewsWatch> watch;
  while (!stopping_) {
    if (files_.empty()) {
      looking_ = false;
      watch.reset();
      changed_.wait(lock);
      continue;
    }
    if (watch == nullptr) watch = std::make_unique<NewsWatch>(*view_);
    lock.unlock();
    const std::vector<std::string> news = watch->look();
    lock.lock();
    looking_ = true;
    std::vector<Opening> opening = std::exchange(opening_, {});
    tell(news);
    if (!opening.empty()) {
      lock.unlock();
      for (Opening& each : opening) (void)each.request->opened(std::move(each.file));
      opening.clear();
      lock.lock();
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(settings_.period);
    while (!stopping_ && !files_.empty() && opening_.empty() && changed_.wait_until(lock, until) != std::cv_status::timeout) {
    }
  }
  running_ = false;
  changed_.notify_all();
}

bool EventFeed::stop(Nanos patience) {
  std::vector<Opening> opening;
  bool ended = false;
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    opening = std::exchange(opening_, {});
    for (const Opening& each : opening) std::erase(files_, each.file);  // nobody will close them
    for (const auto& file : files_) file->end(ENODEV);
    changed_.notify_all();
    to_be_watched_.notify_all();
    ended = changed_.wait_for(lock, std::chrono::nanoseconds(patience), [&] { return !running_; });
  }
  for (const Opening& each : opening) each.request->error(ENODEV);
  if (watch_thread_.joinable()) watch_thread_.join();
  if (!thread_.joinable()) return true;
  if (ended)
    thread_.join();
  else
    thread_.detach();
  return ended;
}

namespace {

class EventsNode final : public StreamNode {
 public:
  explicit EventsNode(std::shared_ptr<EventFeed> feed) : feed_(std::move(feed)) {}
  // It talks to nobody: who may read may read it.
  Attributes attributes() override { return {.mode = {}, .uid = {}, .gid = {}, .valid = 0, .reads_only = true}; }
  void open(std::shared_ptr<OpenRequest> request, int flags) override {
    if ((flags & O_ACCMODE) != O_RDONLY) return request->error(EACCES);
    feed_->open(request);
  }

 private:
  const std::shared_ptr<EventFeed> feed_;
};

}  // namespace

std::shared_ptr<EventFeed> make_event_feed(std::shared_ptr<View> view, EventSettings settings) { return std::make_shared<EventFeed>(std::move(view), settings); }

NodePtr make_events(std::shared_ptr<EventFeed> feed) { return std::make_shared<EventsNode>(std::move(feed)); }

bool stop(EventFeed& feed, Nanos patience) { return feed.stop(patience); }

}  // namespace stp::view
