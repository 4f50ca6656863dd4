#include "stp/uring_medium.h"

#include <fmt/format.h>
#include <linux/membarrier.h>
#include <linux/time_types.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "stp/doorbell.h"
#include "stp/system.h"
#include "stp/transfer.h"

namespace stp {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr unsigned kCompletionEntries = 1024;
// Fewer than the completion ring holds, so that it can not overflow.
constexpr std::uint32_t kMaxInRing = kCompletionEntries - 16;
constexpr unsigned kCooperative = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
constexpr unsigned kMaxAttempts = 1000;
constexpr std::uint64_t kWakeData = ~std::uint64_t{0};
constexpr std::uint64_t kWatchData = kWakeData - 1;
constexpr Nanos kUnsettledSleep = kMillisecond;
constexpr Nanos kNap = 100 * kMicrosecond;
constexpr Nanos kLongestNap = 2 * kMillisecond;

bool worth_another_try(int error) { return error == EAGAIN || error == EINTR || error == ECANCELED || error == EFAULT || error == EBUSY; }

// Registering takes the kernel some time: once a process.
bool may_interrupt_threads() {
  static const bool may = ::syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
  return may;
}

// Every thread of the process that runs now has entered the kernel when this returns.
void interrupt_threads() { ::syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0); }

int init_ring(io_uring& ring, unsigned entries, io_uring_params& params) {
  params.flags |= IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  params.cq_entries = std::max(kCompletionEntries, entries);
  return -io_uring_queue_init_params(entries, &ring, &params);
}

Result<void> make_ring(io_uring& ring, unsigned entries) {
  io_uring_params params{};
  if (may_interrupt_threads()) params.flags = kCooperative;
  int error = init_ring(ring, entries, params);
  if (error == EINVAL && params.flags != 0) {  // before Linux 5.19
    params = {};
    error = init_ring(ring, entries, params);
  }
  if (error != 0) return fail(error, fmt::format("this kernel refuses io_uring ({})", std::strerror(error)));
  constexpr unsigned kNeeded = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
  if ((params.features & kNeeded) != kNeeded) {
    io_uring_queue_exit(&ring);
    return fail(ENOSYS, "this kernel's io_uring is too old (it must know waits with a timeout, Linux 5.11)");
  }
  return {};
}

// Waits for `minimum` completions, or for `nanoseconds`; with 0 completions it only runs what the kernel has queued for this thread.
int enter_and_wait(int ring_fd, unsigned minimum, Nanos nanoseconds) {
  __kernel_timespec timeout{.tv_sec = nanoseconds / kSecond, .tv_nsec = nanoseconds % kSecond};
  io_uring_getevents_arg arg{};
  arg.ts = reinterpret_cast<std::uintptr_t>(&timeout);
  return static_cast<int>(
      ::syscall(__NR_io_uring_enter, ring_fd, 0u, minimum, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg));
}

int enter_and_look(int ring_fd) {
  return static_cast<int>(::syscall(__NR_io_uring_enter, ring_fd, 0u, 0u, IORING_ENTER_GETEVENTS, nullptr, std::size_t{0}));
}

// Runs beside reap(), which moves the head: hence atomic on both.
bool completion_there(const io_uring& ring) {
  return __atomic_load_n(ring.cq.ktail, __ATOMIC_ACQUIRE) != __atomic_load_n(ring.cq.khead, __ATOMIC_RELAXED);
}

// The main thread still does I/O when its thread_local objects are gone: at the end of the process.
thread_local constinit bool count_is_gone = false;
struct CountOfThread {
  std::shared_ptr<Medium::Count> count = std::make_shared<Medium::Count>(0);
  ~CountOfThread() { count_is_gone = true; }
};

const void* this_thread() {
  thread_local constinit char place = 0;
  return &place;
}

std::shared_ptr<Medium::Count> of_this_thread() {
  if (count_is_gone) return nullptr;
  thread_local const CountOfThread mine;
  return mine.count;
}

}  // namespace

Result<void> UringMedium::available() {
  static const Result<void> answer = []() -> Result<void> {
    io_uring ring{};
    if (auto made = make_ring(ring, 4); !made) return made;
    io_uring_queue_exit(&ring);
    return {};
  }();
  return answer;
}

UringMedium::UringMedium(std::shared_ptr<StorageFile> file, std::uint32_t block_size, std::uint64_t total_blocks)
    : file_(std::move(file)), block_size_(block_size), total_blocks_(total_blocks), pid_(::getpid()) {}

Result<std::unique_ptr<Medium>> UringMedium::create(std::shared_ptr<StorageFile> file, std::uint32_t block_size,
                                                    std::uint64_t total_blocks) {
  std::unique_ptr<UringMedium> medium(new UringMedium(std::move(file), block_size, total_blocks));
  if (auto ok = medium->set_up(); !ok) return std::unexpected(ok.error());
  return medium;
}

Result<void> UringMedium::set_up() {
  if (auto made = make_ring(ring_, kSubmissionEntries); !made) return made;
  ring_made_ = true;
  cooperative_ = (ring_.flags & kCooperative) == kCooperative;
  // A child must neither submit through this ring nor keep its memory.
  io_uring_ring_dontfork(&ring_);
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) return fail(errno, fmt::format("can not make an eventfd: {}", std::strerror(errno)));
  if (!file_->track(ring_.ring_fd) || !file_->track(wake_fd_)) return fail(EMFILE, "too many media on one open storage");
  push();
  return {};
}

bool UringMedium::foreign_process() const { return file_->abandoned() || ::getpid() != pid_; }

UringMedium::~UringMedium() {
  if (foreign_process()) return;  // the ring's memory is not there, its descriptors may be somebody else's
  if (ring_made_) {
    drain();
    file_->untrack(ring_.ring_fd);
    io_uring_queue_exit(&ring_);
  }
  if (wake_fd_ >= 0) {
    file_->untrack(wake_fd_);
    ::close(wake_fd_);
  }
}

// However long it takes: until then the kernel may write to buffers and to the storage.
void UringMedium::drain() {
  IoCompletion ignored[64];
  let_go();
  while (in_ring_ > 0 || !backlog_.empty() || !prompt_.empty()) {
    push();
    if (!completion_there(ring_)) enter_and_wait(ring_.ring_fd, 1, 100 * kMillisecond);
    reap(ignored);
  }
}

void UringMedium::submit(const IoRequest& request) {
  if (const int error = check_request(request, block_size_, total_blocks_); error != 0) {
    refused_.push_back({request.token, error});
    refused_count_.fetch_add(1);
    if (sleeping_.load() != nullptr) wake();
    return;
  }
  if (request.prompt && request.op == IoRequest::Op::kWrite && prompt_.keep(request)) return;
  take(request);
}

void UringMedium::take(const IoRequest& request) {
  std::uint32_t id = 0;
  if (free_ids_.empty()) {
    id = static_cast<std::uint32_t>(requests_.size());
    requests_.emplace_back();
  } else {
    id = free_ids_.back();
    free_ids_.pop_back();
  }
  requests_[id] = {.io = request, .attempts = 0};
  if (!backlog_.empty() || !queue_one(id)) {
    backlog_.push_back(id);
    push();
  }
}

bool UringMedium::queue_one(std::uint32_t id) {
  if (in_ring_ >= kMaxInRing) return false;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return false;
  Request& request = requests_[id];
  ++request.attempts;
  const unsigned size = request.io.blocks * block_size_;
  const std::uint64_t offset = request.io.block * block_size_;
  if (request.io.op == IoRequest::Op::kRead)
    io_uring_prep_read(sqe, file_->fd(), request.io.buffer, size, offset);
  else
    io_uring_prep_write(sqe, file_->fd(), request.io.buffer, size, offset);
  io_uring_sqe_set_data64(sqe, id);
  in_submission_ring_.push_back(id);
  ++in_ring_;
  return true;
}

void UringMedium::flush() { push(); }

void UringMedium::carry_out() {
  // The mark first, then the look at the sleeper, who does it the other way round.
  if (prompt_.carry_out(file_->fd(), block_size_) && sleeping_.load() != nullptr) wake();
}

void UringMedium::let_go() {
  const auto request = prompt_.let_go();
  if (!request) return;
  take(*request);
  push();
}

void UringMedium::note_handed_in(unsigned count) {
  const std::shared_ptr<Count> mine = of_this_thread();
  for (; count > 0 && !in_submission_ring_.empty(); --count) {
    const std::uint32_t id = in_submission_ring_.front();
    in_submission_ring_.pop_front();
    if (id == kNoRequest) polled_by_.store(this_thread());
    if (id == kNoRequest || mine == nullptr) continue;
    requests_[id].handed_in_by = mine;
    mine->fetch_add(1, std::memory_order_relaxed);
  }
}

std::shared_ptr<const Medium::Count> UringMedium::under_way_by_caller() { return of_this_thread(); }

void UringMedium::push() {
  bool stuck = false;
  for (;;) {
    while (!backlog_.empty() && queue_one(backlog_.front())) backlog_.pop_front();
    if (!wake_armed_) wake_armed_ = poll(wake_fd_, kWakeData);
    if (watch_wanted_ && !watch_armed_) watch_armed_ = poll(watched_fd_, kWatchData);
    if (io_uring_sq_ready(&ring_) == 0) break;
    const int submitted = io_uring_submit(&ring_);
    if (submitted == -EINTR) continue;
    if (submitted <= 0) {  // EAGAIN, EBUSY: the kernel has no room now. The entries stay in the ring, the next call tries again.
      stuck = true;
      break;
    }
    note_handed_in(static_cast<unsigned>(submitted));
  }
  unsettled_.store(stuck || !wake_armed_ || watch_armed_ != watch_wanted_);
}

// False: the submission ring is full.
bool UringMedium::poll(int fd, std::uint64_t data) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe == nullptr) return false;
  io_uring_prep_poll_add(sqe, fd, POLLIN);
  io_uring_sqe_set_data64(sqe, data);
  in_submission_ring_.push_back(kNoRequest);
  return true;
}

bool UringMedium::watch(int fd) {
  if (watch_refused_) return false;
  watched_fd_ = fd;
  watch_wanted_ = true;
  push();
  return true;
}

void UringMedium::take_watch(int result) {
  watch_wanted_ = watch_armed_ = false;
  watch_refused_ = result < 0 && !worth_another_try(-result);
}

void UringMedium::take_wake() {
  std::uint64_t count = 0;
  (void)!::read(wake_fd_, &count, sizeof count);
  wake_armed_ = false;
}

bool UringMedium::finish(std::uint32_t id, int result, IoCompletion& out) {
  --in_ring_;
  Request& request = requests_[id];
  if (const auto thread = std::exchange(request.handed_in_by, nullptr)) thread->fetch_sub(1, std::memory_order_relaxed);
  if (result < 0 && worth_another_try(-result) && request.attempts < kMaxAttempts) {
    backlog_.push_back(id);
    return false;
  }
  const std::uint64_t wanted = std::uint64_t{request.io.blocks} * block_size_;
  out.token = request.io.token;
  out.error = result < 0 ? -result : (static_cast<std::uint64_t>(result) == wanted ? 0 : EIO);
  free_ids_.push_back(id);
  return true;
}

std::size_t UringMedium::reap(std::span<IoCompletion> out) {
  std::size_t count = 0;
  while (count < out.size() && !refused_.empty()) {
    out[count++] = refused_.front();
    refused_.pop_front();
    refused_count_.fetch_sub(1);
  }
  if (count < out.size()) {
    if (const auto written = prompt_.reap()) out[count++] = *written;
  }
  unsigned head = 0;
  unsigned seen = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    if (count == out.size()) break;
    ++seen;
    if (cqe->user_data == kWakeData)
      take_wake();
    else if (cqe->user_data == kWatchData)
      take_watch(cqe->res);
    else if (finish(static_cast<std::uint32_t>(cqe->user_data), cqe->res, out[count]))
      ++count;
  }
  io_uring_cq_advance(&ring_, seen);
  // Also what the kernel had no room for earlier: completions make room.
  if (!wake_armed_ || !backlog_.empty() || unsettled_.load(std::memory_order_relaxed)) push();
  return count;
}

bool UringMedium::ready() {
  if (completion_there(ring_) || refused_count_.load() > 0 || prompt_.done()) return true;
  return woken_.load() && woken_.exchange(false);
}

void UringMedium::wait(Nanos deadline, Nanos spin) {
  if (ready()) return;
  // Entering also runs what the kernel has queued for this thread.
  const auto look = [this] {
    if (!cooperative_ || held_up()) enter_and_look(ring_.ring_fd);
    return ready();
  };
  if (spin_.run(deadline, spin, look)) return;
  const Nanos now = boottime_now();
  if (now >= deadline) return;
  // The mark first, then the last look: wake() does it the other way round, so one of the two sees the other.
  sleeping_.store(this_thread());
  if (!ready()) {
    const Nanos longest = unsettled_.load() ? kUnsettledSleep : kLongestSleep;
    sleep(now, std::min(deadline - now, longest));
    woken_.store(false);
  }
  sleeping_.store(nullptr);
}

void UringMedium::sleep(Nanos now, Nanos longest) {
  const Nanos end = now + longest;
  for (Nanos nap = kNap; now < end; nap = std::min(2 * nap, kLongestNap), now = boottime_now()) {
    const bool napping = cooperative_ && others_have_requests();
    // Whatever else than the time ends it, a signal among them, is for who waits.
    if (enter_and_wait(ring_.ring_fd, 1, napping ? std::min(nap, end - now) : end - now) >= 0 || errno != ETIME || !napping) return;
    if (held_up()) interrupt_threads();
  }
}

bool UringMedium::others_have_requests() const {
  const std::shared_ptr<Count> mine = of_this_thread();
  return in_ring_.load(std::memory_order_relaxed) > (mine == nullptr ? 0 : mine->load(std::memory_order_relaxed));
}

bool UringMedium::held_up() const { return (__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN) != 0; }

void UringMedium::wake() {
  woken_.store(true);
  const void* const sleeper = sleeping_.load();
  if (sleeper == nullptr) return;
  const std::uint64_t one = 1;
  (void)!::write(wake_fd_, &one, sizeof one);
  if (cooperative_ && polled_by_.load() != sleeper && held_up()) interrupt_threads();
}

}  // namespace stp
