#include "stp/thread_medium.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "stp/doorbell.h"
#include "stp/thread_signals.h"
#include "stp/transfer.h"

namespace stp {

struct ThreadMedium::Pool {
  Pool(std::shared_ptr<StorageFile> open_file, std::uint32_t size) : file(std::move(open_file)), block_size(size), pid(::getpid()) {}

  const std::shared_ptr<StorageFile> file;
  const std::uint32_t block_size;
  const pid_t pid;

  std::mutex mutex;
  std::condition_variable work;
  std::deque<IoRequest> queue;
  std::deque<IoCompletion> done;
  std::vector<pthread_t> workers;
  unsigned idle = 0;
  bool stopping = false;

  std::atomic<std::size_t> done_count{0};
  Doorbell bell;

  void complete(std::uint64_t token, int error) {  // with the mutex
    done.push_back({token, error});
    done_count.fetch_add(1);
  }

  void run() {
    std::unique_lock lock(mutex);
    for (;;) {
      while (queue.empty()) {
        if (stopping) return;
        ++idle;
        work.wait(lock);
        --idle;
      }
      const IoRequest request = queue.front();
      queue.pop_front();
      lock.unlock();
      const int error = transfer(file->fd(), request, block_size);
      lock.lock();
      complete(request.token, error);
      bell.tell_sleeper();
    }
  }

  // With the mutex. The error is of pthread_create.
  int start_worker() {
    const QuietThreads quiet;  // a worker begins with its creator's mask
    pthread_t worker{};
    const auto begin = [](void* pool) -> void* {
      static_cast<Pool*>(pool)->run();
      return nullptr;
    };
    const int error = ::pthread_create(&worker, nullptr, begin, this);
    if (error == 0) workers.push_back(worker);
    return error;
  }
};

ThreadMedium::ThreadMedium(std::unique_ptr<Pool> pool, std::uint32_t block_size, std::uint64_t total_blocks)
    : pool_(std::move(pool)), block_size_(block_size), total_blocks_(total_blocks) {}

Result<std::unique_ptr<Medium>> ThreadMedium::create(std::shared_ptr<StorageFile> file, std::uint32_t block_size,
                                                     std::uint64_t total_blocks) {
  auto pool = std::make_unique<Pool>(std::move(file), block_size);
  {
    std::lock_guard lock(pool->mutex);
    // With one worker there is progress; that further ones can not be had is no error later.
    if (const int error = pool->start_worker(); error != 0)
      return fail(error, fmt::format("can not start a thread for the storage's I/O: {}", std::strerror(error)));
  }
  return std::unique_ptr<Medium>(new ThreadMedium(std::move(pool), block_size, total_blocks));
}

ThreadMedium::~ThreadMedium() {
  if (pool_->file->abandoned() || ::getpid() != pool_->pid) {
    (void)pool_.release();  // the workers are not in this process, the mutex may be held for ever
    return;
  }
  let_go();
  while (!prompt_.empty() && !prompt_.done()) std::this_thread::yield();
  {
    std::lock_guard lock(pool_->mutex);
    pool_->stopping = true;
  }
  pool_->work.notify_all();
  for (const pthread_t worker : pool_->workers) ::pthread_join(worker, nullptr);
}

void ThreadMedium::submit(const IoRequest& request) {
  const int error = check_request(request, block_size_, total_blocks_);
  if (error != 0) {
    std::lock_guard lock(pool_->mutex);
    pool_->complete(request.token, error);
    pool_->bell.tell_sleeper();
    return;
  }
  if (!request.prompt || request.op != IoRequest::Op::kWrite || !prompt_.keep(request)) queue(request);
}

void ThreadMedium::queue(const IoRequest& request) {
  std::lock_guard lock(pool_->mutex);
  pool_->queue.push_back(request);
  if (pool_->idle < pool_->queue.size() && pool_->workers.size() < kMaxWorkers) (void)pool_->start_worker();
  pool_->work.notify_one();
}

void ThreadMedium::carry_out() {
  if (prompt_.carry_out(pool_->file->fd(), block_size_)) pool_->bell.tell_sleeper();
}

void ThreadMedium::let_go() {
  if (const auto request = prompt_.let_go()) queue(*request);
}

std::size_t ThreadMedium::reap(std::span<IoCompletion> out) {
  std::size_t count = 0;
  if (!out.empty()) {
    if (const auto written = prompt_.reap()) out[count++] = *written;
  }
  if (pool_->done_count.load() == 0) return count;
  std::lock_guard lock(pool_->mutex);
  const std::size_t before = count;
  while (count < out.size() && !pool_->done.empty()) {
    out[count++] = pool_->done.front();
    pool_->done.pop_front();
  }
  pool_->done_count.fetch_sub(count - before);
  return count;
}

void ThreadMedium::wait(Nanos deadline, Nanos spin) {
  pool_->bell.wait(deadline, spin, [this] { return pool_->done_count.load() > 0 || prompt_.done(); });
}

void ThreadMedium::wake() { pool_->bell.ring(); }

}  // namespace stp
