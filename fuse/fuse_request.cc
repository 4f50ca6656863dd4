#include "fuse/fuse_request.h"

#include <linux/fuse.h>

#include <atomic>
#include <unordered_map>

#include "hostlib/quiet_thread.h"

#ifndef FOPEN_PARALLEL_DIRECT_WRITES  // headers before Linux 6.2
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

namespace stp::view {
namespace {

// Set while libfuse is told of an interest in signals: it calls back at once, within its locks, when one has come already.
thread_local bool registering = false;
thread_local bool hit_already = false;

// Requests that want to know of signals, by numbers: libfuse keeps a pointer for longer than a request lives.
class Watched {
 public:
  std::uintptr_t add(std::weak_ptr<FuseRequest> request) {
    std::lock_guard lock(mutex_);
    requests_[++last_] = std::move(request);
    return last_;
  }
  void remove(std::uintptr_t number) {
    std::lock_guard lock(mutex_);
    requests_.erase(number);
  }
  std::shared_ptr<FuseRequest> find(std::uintptr_t number) {
    std::lock_guard lock(mutex_);
    const auto it = requests_.find(number);
    return it == requests_.end() ? nullptr : it->second.lock();
  }

 private:
  std::mutex mutex_;
  std::uintptr_t last_ = 0;
  std::unordered_map<std::uintptr_t, std::weak_ptr<FuseRequest>> requests_;
};

Watched& watched() {
  static Watched& all = *new Watched;  // for as long as any thread
  return all;
}

Caller caller_of(fuse_req_t request) {
  const fuse_ctx* const context = fuse_req_ctx(request);
  return {.uid = context->uid, .gid = context->gid, .pid = context->pid};
}

}  // namespace

FuseRequest::FuseRequest(fuse_req_t request, std::shared_ptr<FuseGate> gate, std::shared_ptr<OpenFiles> files)
    : request_(request), gate_(std::move(gate)), files_(std::move(files)), caller_(caller_of(request)) {}

FuseRequest::~FuseRequest() { error(EIO); }

void FuseRequest::error(int code) {
  answer([&](fuse_req_t request) { return fuse_reply_err(request, code); });
}

void FuseRequest::data(std::span<const iovec> parts) {
  answer([&](fuse_req_t request) { return fuse_reply_iov(request, parts.data(), static_cast<int>(parts.size())); });
}

void FuseRequest::written(std::size_t bytes) {
  answer([&](fuse_req_t request) { return fuse_reply_write(request, bytes); });
}

bool FuseRequest::opened(std::shared_ptr<OpenFile> file) {
  auto made = std::make_unique<Handle>();
  made->stream = file;
  Handle* const handle = files_->keep(std::move(made));
  // libfuse 3.14 does not know these flags all: the answer is made by hand. Without FOPEN_STREAM the kernel takes a lock of the file's
  // position for a read, and a write on the same descriptor waits for it.
  fuse_open_out out = {};
  out.fh = reinterpret_cast<std::uintptr_t>(handle);
  out.open_flags = FOPEN_STREAM | FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_PARALLEL_DIRECT_WRITES;
  files_->add(file);
  if (answer([&](fuse_req_t request) { return fuse_reply_buf(request, reinterpret_cast<const char*>(&out), sizeof out); })) return true;
  files_->release(file);
  (void)files_->let_go(handle);
  return false;
}

// Called by libfuse on a thread of the session, with a lock of the request held. Nobody waits for that lock who holds ours: it is taken
// in on_interrupt() alone, before `hit` is known to libfuse.
void FuseRequest::hit(fuse_req_t, void* number) {
  if (registering) {
    hit_already = true;
    return;
  }
  const std::shared_ptr<FuseRequest> self = watched().find(reinterpret_cast<std::uintptr_t>(number));
  if (self == nullptr) return;
  std::function<void()> interrupted;
  {
    std::lock_guard lock(self->mutex_);
    interrupted.swap(self->interrupted_);
  }
  if (interrupted) interrupted();
}

bool FuseRequest::on_interrupt(std::function<void()> interrupted) {
  std::lock_guard lock(mutex_);
  if (answered_ || watched_ != 0) return true;
  watched_ = watched().add(weak_from_this());
  interrupted_ = std::move(interrupted);
  registering = true;
  hit_already = false;
  gate_->pass([&] { fuse_req_interrupt_func(request_, hit, reinterpret_cast<void*>(watched_)); });
  registering = false;
  if (!hit_already) return true;
  forget_interrupts();
  return false;
}

void FuseRequest::forget_interrupts() {
  if (watched_ != 0) watched().remove(watched_);
  watched_ = 0;
  interrupted_ = nullptr;
}

class Wakers::Poller final : public Waker, public std::enable_shared_from_this<Poller> {
 public:
  Poller(fuse_pollhandle* handle, std::shared_ptr<State> state) : handle_(handle), state_(std::move(state)) {}
  ~Poller() override { fuse_pollhandle_destroy(handle_); }
  void wake() override {
    if (!woken_.exchange(true)) state_->add([self = shared_from_this()] { (void)fuse_lowlevel_notify_poll(self->handle_); });
  }

 private:
  fuse_pollhandle* const handle_;
  const std::shared_ptr<State> state_;
  std::atomic<bool> woken_{false};
};

std::shared_ptr<Waker> Wakers::make(fuse_pollhandle* handle) { return handle == nullptr ? nullptr : std::make_shared<Poller>(handle, state_); }

void Wakers::State::add(Work work) {
  std::lock_guard lock(mutex);
  if (stopping) return;
  queue.push_back(std::move(work));
  news.notify_one();
}

std::function<void(Wakers::Work)> Wakers::runner() const {
  return [state = state_](Work work) { state->add(std::move(work)); };
}

bool Wakers::start() {
  state_->running = true;
  return state_->running = host::start_quiet_thread(thread_, [state = state_] { run(state); });
}

bool Wakers::stop(std::chrono::milliseconds patience) {
  std::deque<Work> left;  // let go without the lock
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->news.notify_one();
  if (!state_->ended.wait_for(lock, patience, [this] { return !state_->running; })) return false;
  left.swap(state_->queue);
  lock.unlock();
  if (thread_.joinable()) thread_.join();
  return true;
}

void Wakers::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (!state->stopping) {
    if (state->queue.empty()) {
      state->news.wait(lock);
      continue;
    }
    Work work = std::move(state->queue.front());
    state->queue.pop_front();
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
  }
  state->running = false;
  state->ended.notify_all();
}

}  // namespace stp::view
