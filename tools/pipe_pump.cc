#include "tools/pipe_pump.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "hostlib/unique_fd.h"

namespace stp {

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

class Pump {
 public:
  Pump(Stream stream, int input, int output)
      : stream_(std::move(stream)), input_(input), output_(output), wake_(::eventfd(0, EFD_CLOEXEC)), sent_(::eventfd(0, EFD_CLOEXEC)), terminal_(input >= 0 && ::isatty(input) == 1) {}

  Outcome<PipeTotals> run() {
    if (!wake_ || !sent_) return failure(FailureCode::kIo, "cannot make an eventfd: too many open files");
    std::thread receiver([this] { receive_loop(); });
    send_loop();
    receiver.join();
    if (failure_) {
      // Good manners for a local failure: what was accepted is still delivered. The first failure is the one that is told.
      (void)stream_.close();
      return std::unexpected(*failure_);
    }
    if (auto closed = stream_.close(); !closed) return std::unexpected(closed.error());
    return totals_;
  }

 private:
  void fail(Failure why) {
    {
      const std::lock_guard lock(mutex_);
      if (failure_) return;
      failure_ = std::move(why);
    }
    stream_.shut_down();
    ring(wake_);
    ring(sent_);
  }

  static void ring(const UniqueFd& bell) {
    const std::uint64_t one = 1;
    (void)!::write(bell.get(), &one, sizeof one);
  }

  // Waits for input. False: the other direction says that it is time to end.
  bool input_ready() {
    pollfd watched[2] = {{input_, POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    while (::poll(watched, 2, -1) < 0 && errno == EINTR) {
    }
    return watched[1].revents == 0;
  }

  void send_loop() {
    std::vector<std::byte> buffer(kChunk);
    while (input_ >= 0 && input_ready()) {
      const ssize_t n = ::read(input_, buffer.data(), buffer.size());
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n < 0) {
        auto why = file_failure(errno, "cannot read standard input");
        return fail({FailureCode::kIo, std::move(why.error().text)});
      }
      if (n == 0) break;
      if (auto sent = stream_.send_all(std::span(buffer).first(static_cast<std::size_t>(n))); !sent) return fail(sent.error());
      totals_.sent += static_cast<std::uint64_t>(n);
    }
    {
      const std::lock_guard lock(mutex_);
      if (failure_) return;
    }
    ring(sent_);  // ahead of the end: a connection that both sides have ended is not lost
    if (auto finished = stream_.finish_sending(); !finished) fail(finished.error());
  }

  void receive_loop() {
    std::vector<std::byte> buffer(kChunk);
    while (true) {
      const auto n = stream_.receive_some(buffer);
      if (!n) return fail(n.error());
      if (*n == 0) break;
      if (!write_all(std::span(buffer).first(*n))) return;
      totals_.received += *n;
    }
    {
      // A shutdown of our own after a failure looks like the end as well.
      const std::lock_guard lock(mutex_);
      if (failure_) return;
    }
    if (::close(output_) != 0) return fail({FailureCode::kIo, file_failure(errno, "cannot close standard output").error().text});
    if (terminal_) ring(wake_);
    if (auto lost = stream_.wait_for_loss(sent_.get()); !lost) fail(lost.error());
  }

  bool write_all(ConstBytes bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(output_, bytes.data(), bytes.size());
      if (n >= 0) {
        bytes = bytes.subspan(static_cast<std::size_t>(n));
      } else if (errno == EAGAIN) {
        pollfd watched{output_, POLLOUT, 0};
        (void)::poll(&watched, 1, -1);
      } else if (errno != EINTR) {
        fail({FailureCode::kIo, file_failure(errno, "cannot write to standard output").error().text});
        return false;
      }
    }
    return true;
  }

  Stream stream_;
  const int input_;
  const int output_;
  UniqueFd wake_;  // the sender, to end
  UniqueFd sent_;  // everything, or there is no more sending
  const bool terminal_;
  PipeTotals totals_;  // each field is one thread's, read after join
  std::mutex mutex_;
  std::optional<Failure> failure_;
};

}  // namespace

Outcome<PipeTotals> pump(Stream stream, int input, int output) { return Pump(std::move(stream), input, output).run(); }

}  // namespace stp
