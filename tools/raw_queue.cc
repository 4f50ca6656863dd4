#include "tools/raw_queue.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace stp {
namespace {

struct Request {
  bool write = false;
  std::uint64_t at = 0;
  std::byte* buffer = nullptr;
  std::size_t size = 0;
  unsigned token = 0;
};

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

int verdict(std::int64_t result, std::size_t size) {
  if (result < 0) return static_cast<int>(-result);
  return static_cast<std::size_t>(result) == size ? 0 : EIO;
}

class UringQueue final : public RawQueue {
 public:
  UringQueue(Descriptor fd, std::uint64_t offset, unsigned depth) : fd_(std::move(fd)), offset_(offset), sizes_(depth) {}
  ~UringQueue() override {
    while (in_flight_ > 0) (void)wait(std::chrono::seconds(1));
    if (ready_) io_uring_queue_exit(&ring_);
  }
  bool start() {
    ready_ = io_uring_queue_init(static_cast<unsigned>(sizes_.size()), &ring_, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) == 0 ||
             io_uring_queue_init(static_cast<unsigned>(sizes_.size()), &ring_, 0) == 0;
    return ready_;
  }
  void read(std::uint64_t at, std::byte* into, std::size_t size, unsigned token) override {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_read(sqe, fd_.get(), into, static_cast<unsigned>(size), offset_ + at);
    submit(sqe, size, token);
  }
  void write(std::uint64_t at, const std::byte* from, std::size_t size, unsigned token) override {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_write(sqe, fd_.get(), from, static_cast<unsigned>(size), offset_ + at);
    submit(sqe, size, token);
  }
  Done wait(std::chrono::nanoseconds timeout) override {
    io_uring_cqe* cqe = nullptr;
    __kernel_timespec limit{timeout.count() / 1'000'000'000, timeout.count() % 1'000'000'000};
    // With deferred task work even a look has to enter the kernel: a timeout of zero does.
    if (io_uring_peek_cqe(&ring_, &cqe) != 0 && io_uring_wait_cqe_timeout(&ring_, &cqe, &limit) != 0) return {};
    Done done{.state = Done::State::kDone, .token = static_cast<unsigned>(cqe->user_data)};
    done.error = verdict(cqe->res, sizes_[done.token]);
    io_uring_cqe_seen(&ring_, cqe);
    --in_flight_;
    return done;
  }

 private:
  void submit(io_uring_sqe* sqe, std::size_t size, unsigned token) {
    io_uring_sqe_set_data64(sqe, token);
    sizes_[token] = size;
    ++in_flight_;
    io_uring_submit(&ring_);
  }
  Descriptor fd_;
  std::uint64_t offset_;
  std::vector<std::size_t> sizes_;  // by token
  unsigned in_flight_ = 0;
  bool ready_ = false;
  io_uring ring_{};
};

class ThreadQueue final : public RawQueue {
 public:
  ThreadQueue(Descriptor fd, std::uint64_t offset, unsigned depth) : fd_(std::move(fd)), offset_(offset) {
    for (unsigned i = 0; i < depth; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~ThreadQueue() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wanted_.notify_all();
  }
  void read(std::uint64_t at, std::byte* into, std::size_t size, unsigned token) override { add({false, at, into, size, token}); }
  void write(std::uint64_t at, const std::byte* from, std::size_t size, unsigned token) override {
    add({true, at, const_cast<std::byte*>(from), size, token});
  }
  Done wait(std::chrono::nanoseconds timeout) override {
    std::unique_lock lock(mutex_);
    if (!finished_.wait_for(lock, timeout, [&] { return !done_.empty(); })) return {};
    const Done done = done_.front();
    done_.pop_front();
    return done;
  }

 private:
  void add(const Request& request) {
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    wanted_.notify_one();
  }
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wanted_.wait(lock, [&] { return stop_ || !requests_.empty(); });
      if (requests_.empty()) return;
      const Request request = requests_.front();
      requests_.pop_front();
      lock.unlock();
      const auto at = static_cast<off_t>(offset_ + request.at);
      const ssize_t moved = request.write ? ::pwrite(fd_.get(), request.buffer, request.size, at)
                                          : ::pread(fd_.get(), request.buffer, request.size, at);
      const int error = verdict(moved < 0 ? -errno : moved, request.size);
      lock.lock();
      done_.push_back({.state = Done::State::kDone, .token = request.token, .error = error});
      finished_.notify_one();
    }
  }
  Descriptor fd_;
  std::uint64_t offset_;
  std::mutex mutex_;
  std::condition_variable wanted_, finished_;
  std::deque<Request> requests_;
  std::deque<Done> done_;
  bool stop_ = false;
  std::vector<std::jthread> threads_;  // last: joined before what they use goes
};

}  // namespace

Result<std::unique_ptr<RawQueue>> RawQueue::open(const RawRange& range, unsigned depth) {
  const int fd = ::open(range.path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    return fail(error, fmt::format("\"{}\" can not be opened with O_DIRECT: {}", range.path, std::strerror(error)));
  }
  Descriptor owner(fd);
  const int again = ::dup(fd);
  auto uring = std::make_unique<UringQueue>(std::move(owner), range.offset, depth);
  if (uring->start()) {
    if (again >= 0) ::close(again);
    return uring;
  }
  if (again < 0) return fail(EMFILE, "no descriptor left");
  return std::make_unique<ThreadQueue>(Descriptor(again), range.offset, depth);
}

}  // namespace stp
