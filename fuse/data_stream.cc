#include "fuse/data_stream.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "hostlib/stp_dial.h"

namespace stp::view {
namespace {

using namespace std::chrono_literals;

constexpr int kBatch = 16;  // answers to one stream before the others have their turn
// Of what waits to be written. Above it, those who come are answered when this much of theirs has gone.
constexpr std::size_t kMostKept = 16 << 20;
constexpr std::size_t kKeptThen = 64 << 10;
constexpr const char* kHungUp = "the conversation was hung up";
constexpr auto kFirstDrainLook = 1ms;
constexpr auto kSlowestDrainLook = 50ms;

// Of the calling thread: what is read into it is answered before the thread does anything else.
Bytes threads_buffer(std::size_t size) {
  thread_local std::unique_ptr<std::byte[]> buffer;
  if (!buffer) buffer.reset(new std::byte[DataStream::kMostAtOnce]);
  return {buffer.get(), std::min(size, DataStream::kMostAtOnce)};
}

void answer_read(Request& request, int error, ConstBytes bytes) {
  if (error != 0)
    request.error(error);
  else
    request.data(bytes);
}

void answer_write(Request& request, int error, std::size_t done) {
  if (done > 0 || error == 0)
    request.written(done);
  else
    request.error(error);
}

}  // namespace

DataStream::DataStream(Loops loops, StpSocket socket, Note note)
    : loops_(std::move(loops)), note_(std::move(note)), socket_(std::move(socket)) {}

DataStream::~DataStream() { end(ECONNABORTED); }

Result<std::shared_ptr<DataStream>> DataStream::make(Loops loops, StpSocket socket, Note note) {
  std::shared_ptr<DataStream> stream(new DataStream(std::move(loops), std::move(socket), std::move(note)));
  if (auto watched = stream->watch(); !watched) return std::unexpected(watched.error());
  return stream;
}

// The descriptors are watched for edges. One goes up only after it was down, and every call on the socket sets it to what is true. A call
// that moved nothing has therefore left it down, or up with an edge that is still to be told: whoever waits after such a call, and
// after no other, is told.
Result<void> DataStream::watch() {
  constexpr short kEvents[2] = {POLLIN, POLLOUT};
  for (int i = 0; i < 2; ++i) {
    const int fd = STPgetpollfd(socket_.get(), kEvents[i]);
    if (fd < 0) return fail(errno, stp_words(socket_.get(), errno));
    const bool watching = loops_.calls->watch(fd, EPOLLIN | EPOLLET, [weak = weak_from_this()](std::uint32_t) {
      if (const auto self = weak.lock()) self->ready();
    });
    if (!watching) return fail(errno, std::string("can not watch a socket: ") + std::strerror(errno));
    watched_[i] = fd;
  }
  return {};
}

// -- Moving bytes, under the lock ----------------------------------------------------------------------------------

// Of a call of the library that failed.
int DataStream::fail_words(int error) {
  if (error == EAGAIN) return error;
  std::string words = stp_words(socket_.get(), error);
  if (broke_ == 0 && error != EPIPE && error != EINTR) {
    broke_ = error;
    why_ = words;
  }
  return fail_words(error, std::move(words));
}

int DataStream::fail_words(int error, std::string words) {
  if (note_) note_(std::move(words));
  return error;
}

// So that the words are there before anybody reads or writes.
void DataStream::look_for_break() {
  pollfd look = {.fd = socket_.get(), .events = 0, .revents = 0};
  if (broke_ != 0 || STPpoll(&look, 1, 0) <= 0 || (look.revents & POLLERR) == 0) return;
  if (STPsend(socket_.get(), "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) (void)fail_words(errno);
}

DataStream::Moved DataStream::receive(std::size_t most) {
  if (ended_ != 0) return {.error = fail_words(ended_, kHungUp)};
  if (most == 0) return {};
  const Bytes into = threads_buffer(most);
  const ssize_t n = STPrecv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT);
  if (n < 0) return {.error = fail_words(errno)};
  read_ += static_cast<std::uint64_t>(n);
  return {.bytes = static_cast<std::size_t>(n)};
}

// Until nothing moves: see watch().
DataStream::Moved DataStream::send(ConstBytes bytes) {
  if (ended_ != 0) return {.error = fail_words(ended_, kHungUp)};
  if (broke_ != 0) return {.error = fail_words(broke_, why_)};
  Moved moved;
  while (moved.bytes < bytes.size()) {
    const ConstBytes rest = bytes.subspan(moved.bytes);
    const ssize_t n = STPsend(socket_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      moved.error = fail_words(errno);
      break;
    }
    moved.bytes += static_cast<std::size_t>(n);
    written_ += static_cast<std::uint64_t>(n);
  }
  return moved;
}

// -- Asked for -----------------------------------------------------------------------------------------------------

// Under the lock. False: it was interrupted before it could wait.
template <class Queue, class Item>
bool DataStream::put_off(Queue& queue, Item item) {
  item.id = next_id_++;
  item.until = timeout_ > 0ms ? Clock::now() + timeout_ : Clock::time_point::max();
  const bool waits = item.request->on_interrupt([clock = loops_.clock, weak = weak_from_this(), id = item.id] {
    clock->post([weak, id] {
      if (const auto self = weak.lock()) self->give_up(id, EINTR);
    });
  });
  if (!waits) return false;
  const bool timed = item.until != Clock::time_point::max();
  queue.push_back(std::move(item));
  if (timed && !std::exchange(timer_runs_, true))
    loops_.clock->post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->look_at_deadlines();
    });
  return true;
}

void DataStream::read(std::shared_ptr<Request> request, std::size_t most, bool wait) {
  std::unique_lock lock(mutex_);
  Moved moved{.error = ended_ != 0 ? ended_ : EAGAIN};
  if (readers_.empty()) moved = receive(most);
  if (moved.error == EAGAIN && wait) {
    if (put_off(readers_, Reader{.request = request, .most = most})) return;
    moved.error = EINTR;
  }
  lock.unlock();
  answer_read(*request, moved.error, threads_buffer(moved.bytes));
}

void DataStream::write(std::shared_ptr<Request> request, ConstBytes bytes, bool wait) {
  std::unique_lock lock(mutex_);
  Moved moved{.error = ended_ != 0 ? ended_ : EAGAIN};
  if (ends_sending_ && ended_ == 0 && broke_ == 0)
    moved.error = fail_words(EPIPE, "write: the end of what is sent has been said, by shutdown or by the last writer's close");
  else if (writers_.empty())
    moved = send(bytes);
  if (moved.error == EAGAIN && wait) {
    const std::size_t left = bytes.size() - moved.bytes;
    const ConstBytes rest = bytes.subspan(moved.bytes, kept_ < kMostKept ? left : std::min(left, kKeptThen));
    kept_ += rest.size();
    if (put_off(writers_, Writer{.request = request, .done = moved.bytes, .rest = {rest.begin(), rest.end()}})) return;
    kept_ -= rest.size();
    moved.error = EINTR;
  }
  lock.unlock();
  answer_write(*request, moved.error, moved.bytes);
}

void DataStream::end_sending() {
  std::lock_guard lock(mutex_);
  if (ended_ != 0 || std::exchange(ends_sending_, true)) return;
  loops_.calls->post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->shut_down();
  });
}

// In the thread of the calls. Once all that waited to be written has gone.
void DataStream::shut_down() {
  std::lock_guard lock(mutex_);
  if (ends_sending_ && writers_.empty() && ended_ == 0) (void)STPshutdown(socket_.get(), SHUT_WR);
}

void DataStream::set_timeout(std::chrono::milliseconds span) {
  std::lock_guard lock(mutex_);
  timeout_ = span;
}

std::uint64_t DataStream::bytes_read() const {
  std::lock_guard lock(mutex_);
  return read_;
}

std::uint64_t DataStream::bytes_written() const {
  std::lock_guard lock(mutex_);
  return written_;
}

// -- In the thread of the calls, but for what the clock does --------------------------------------------------------

void DataStream::ready() {
  std::vector<std::shared_ptr<Waker>> wakers;
  {
    std::lock_guard lock(mutex_);
    if (ended_ != 0) return;
    (void)STPgetpollfd(socket_.get(), POLLIN);  // sets both descriptors to what is true, ahead of the looks below
    look_for_break();
    wakers = take_wakers();
  }
  for (const auto& waker : wakers) waker->wake();
  serve_readers();
  serve_writers();
}

void DataStream::serve_readers() {
  for (int i = 0; i < kBatch; ++i) {
    std::unique_lock lock(mutex_);
    if (readers_.empty()) return;
    const Moved moved = receive(readers_.front().most);
    if (moved.error == EAGAIN) return;
    const std::shared_ptr<Request> request = std::move(readers_.front().request);
    readers_.pop_front();
    lock.unlock();
    answer_read(*request, moved.error, threads_buffer(moved.bytes));
  }
  loops_.calls->soon([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->serve_readers();
  });
}

void DataStream::serve_writers() {
  for (int i = 0; i < kBatch; ++i) {
    std::unique_lock lock(mutex_);
    if (writers_.empty()) return;
    Writer& first = writers_.front();
    const Moved moved = send(ConstBytes(first.rest).subspan(first.sent));
    first.sent += moved.bytes;
    first.done += moved.bytes;
    if (moved.error == EAGAIN) return;
    const Writer over = std::move(first);
    writers_.pop_front();
    kept_ -= over.rest.size();
    const auto wakers = no_more_writers();
    lock.unlock();
    answer_write(*over.request, moved.error, over.done);
    for (const auto& waker : wakers) waker->wake();
  }
  loops_.calls->soon([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->serve_writers();
  });
}

// By the clock.
void DataStream::give_up(std::uint64_t id, int error) {
  const auto is_it = [id](const auto& item) { return item.id == id; };
  std::unique_lock lock(mutex_);
  if (const auto it = std::ranges::find_if(readers_, is_it); it != readers_.end()) {
    const Reader over = std::move(*it);
    readers_.erase(it);
    lock.unlock();
    over.request->error(error);
    return;
  }
  const auto it = std::ranges::find_if(writers_, is_it);
  if (it == writers_.end()) return;  // answered meanwhile
  const Writer over = std::move(*it);
  writers_.erase(it);
  kept_ -= over.rest.size();
  const auto wakers = no_more_writers();
  lock.unlock();
  answer_write(*over.request, error, over.done);
  for (const auto& waker : wakers) waker->wake();
}

// Under the lock. Who is to be told, when the last one that waited to write has gone.
std::vector<std::shared_ptr<Waker>> DataStream::no_more_writers() {
  if (!writers_.empty()) return {};
  if (ends_sending_ && ended_ == 0)
    loops_.calls->post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->shut_down();
    });
  return take_wakers();
}

// By the clock.
void DataStream::look_at_deadlines() {
  const auto now = Clock::now();
  std::vector<std::uint64_t> late;
  auto next = Clock::time_point::max();
  {
    std::lock_guard lock(mutex_);
    const auto look = [&](const auto& queue) {
      for (const auto& item : queue) {
        if (item.until <= now)
          late.push_back(item.id);
        else
          next = std::min(next, item.until);
      }
    };
    look(readers_);
    look(writers_);
    timer_runs_ = next != Clock::time_point::max();
  }
  if (!late.empty() && note_) note_("nothing came, or could be sent, within the timeout that was set");
  for (const std::uint64_t id : late) give_up(id, ETIMEDOUT);
  if (next == Clock::time_point::max()) return;
  loops_.clock->after(std::chrono::ceil<std::chrono::milliseconds>(next - now), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look_at_deadlines();
  });
}

// -- Going ---------------------------------------------------------------------------------------------------------

void DataStream::drain(std::shared_ptr<Request> request) {
  const bool waits = request->on_interrupt([weak = std::weak_ptr(request)] {
    if (const auto waiting = weak.lock()) waiting->error(EINTR);
  });
  if (!waits) return request->error(EINTR);
  loops_.calls->post([weak = weak_from_this(), request = std::move(request)] {
    if (const auto self = weak.lock()) self->look_at_drain(request, Clock::now() + kLongestDrain, kFirstDrainLook);
  });
}

// Nothing tells when the last byte is acknowledged: asked for, less and less often.
void DataStream::look_at_drain(const std::shared_ptr<Request>& request, Clock::time_point until, std::chrono::milliseconds span) {
  bool arrived = false;
  int error = 0;
  {
    std::lock_guard lock(mutex_);
    if (ended_ == 0) look_for_break();
    arrived = arrived_ == written_;
    if (!arrived && (ended_ != 0 || broke_ != 0)) {
      error = ended_ != 0 ? ended_ : broke_;
      (void)fail_words(error, std::string("not everything that was written is known to have arrived: ") + (ended_ != 0 ? kHungUp : why_));
    } else if (!arrived) {
      int unacknowledged = 0;
      arrived = STPioctl(socket_.get(), SIOCOUTQ, &unacknowledged) != 0 || unacknowledged == 0;
      if (arrived) arrived_ = written_;
    }
  }
  if (arrived) return request->error(0);
  if (error != 0 || Clock::now() >= until) return request->error(error);
  loops_.calls->after(span, [weak = weak_from_this(), request, until, span] {
    if (const auto self = weak.lock())
      self->look_at_drain(request, until, std::min<std::chrono::milliseconds>(2 * span, kSlowestDrainLook));
  });
}

void DataStream::end(int error) {
  std::deque<Reader> readers;
  std::deque<Writer> writers;
  std::vector<std::shared_ptr<Waker>> wakers;
  {
    std::lock_guard lock(mutex_);
    if (ended_ != 0) return;
    ended_ = error;
    readers.swap(readers_);
    writers.swap(writers_);
    wakers = take_wakers();
    // The descriptors are the loop's to forget, and the socket's to close.
    loops_.calls->post([loop = loops_.calls.get(), socket = socket_.release(), in = watched_[0], out = watched_[1]] {
      if (in >= 0) loop->forget(in);
      if (out >= 0) loop->forget(out);
      (void)STPclose(socket);
    });
  }
  for (const Reader& each : readers) each.request->error(error);
  for (const Writer& each : writers) answer_write(*each.request, error, each.done);
  for (const auto& waker : wakers) waker->wake();
}

// -- Polling -------------------------------------------------------------------------------------------------------

std::vector<std::shared_ptr<Waker>> DataStream::take_wakers() {
  std::vector<std::shared_ptr<Waker>> out;
  out.reserve(wakers_.size());
  for (auto& [file, waker] : wakers_) out.push_back(std::move(waker));
  wakers_.clear();
  return out;
}

std::uint32_t DataStream::poll(const void* file, std::shared_ptr<Waker> waker) {
  std::lock_guard lock(mutex_);
  if (ended_ != 0) return POLLIN | POLLOUT | POLLERR | POLLHUP;
  if (waker != nullptr) {
    const auto it = std::ranges::find(wakers_, file, [](const auto& entry) { return entry.first; });
    if (it != wakers_.end())
      it->second = std::move(waker);
    else
      wakers_.emplace_back(file, std::move(waker));
  }
  pollfd look = {.fd = socket_.get(), .events = POLLIN | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM, .revents = 0};
  if (STPpoll(&look, 1, 0) < 0) return POLLERR;
  std::uint32_t events = static_cast<std::uint16_t>(look.revents);
  if (broke_ != 0) events |= POLLERR;
  // Who waits has the first turn.
  if (!writers_.empty()) events &= ~static_cast<std::uint32_t>(POLLOUT | POLLWRNORM);
  return events;
}

void DataStream::forget(const void* file) {
  std::lock_guard lock(mutex_);
  std::erase_if(wakers_, [file](const auto& entry) { return entry.first == file; });
}

}  // namespace stp::view
