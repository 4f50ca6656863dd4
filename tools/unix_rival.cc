#include "tools/unix_rival.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "tools/own_processors.h"

namespace stp::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct SocketPair {
  int ends[2] = {-1, -1};
  ~SocketPair() {
    close(0);
    close(1);
  }
  void close(int which) {
    if (ends[which] >= 0) ::close(ends[which]);
    ends[which] = -1;
  }
};

// The other program. It ends when this side has closed its socket.
class Other {
 public:
  template <class Job>
  Other(SocketPair& pair, Job job) : pair_(pair) {
    pid_ = ::fork();
    if (pid_ != 0) {
      pair.close(1);
      half_.emplace(Half::kFirst);
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    pair.close(0);
    half_.emplace(Half::kSecond);
    job(pair.ends[1]);
    ::_exit(0);
  }
  ~Other() {
    pair_.close(0);
    while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;
  bool started() const { return pid_ > 0; }

 private:
  SocketPair& pair_;
  pid_t pid_ = -1;
  std::optional<OnHalf> half_;
};

Result<void> make(SocketPair& pair, int buffer_bytes) {
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.ends) != 0) return fail(errno, std::string("socketpair: ") + std::strerror(errno));
  if (buffer_bytes == 0) return {};
  for (const int end : pair.ends)
    for (const int option : {SO_SNDBUFFORCE, SO_RCVBUFFORCE}) {
      const int plain = option == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF;
      if (::setsockopt(end, SOL_SOCKET, option, &buffer_bytes, sizeof buffer_bytes) != 0)
        (void)::setsockopt(end, SOL_SOCKET, plain, &buffer_bytes, sizeof buffer_bytes);
    }
  return {};
}

bool receive_all(int fd, char* into, std::size_t size) { return ::recv(fd, into, size, MSG_WAITALL) == static_cast<ssize_t>(size); }

}  // namespace

Result<double> unix_stream(std::size_t send_bytes, int buffer_bytes, std::chrono::milliseconds duration) {
  SocketPair pair;
  if (auto made = make(pair, buffer_bytes); !made) return std::unexpected(made.error());
  const std::vector<char> data(send_bytes, 's');
  std::vector<char> buffer(receive_bytes_for(send_bytes));
  const Other taker(pair, [&](int fd) {
    std::uint64_t arrived = 0;
    for (ssize_t n = 0; (n = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) arrived += static_cast<std::uint64_t>(n);
    (void)!::send(fd, &arrived, sizeof arrived, MSG_NOSIGNAL);
  });
  if (!taker.started()) return fail(errno, std::string("fork: ") + std::strerror(errno));
  const Clock::time_point begin = Clock::now();
  const Clock::time_point end = begin + duration;
  const int at_once = sends_between_looks(send_bytes);
  for (bool good = true; good && Clock::now() < end;)
    for (int i = 0; i < at_once && good; ++i) good = ::send(pair.ends[0], data.data(), data.size(), MSG_NOSIGNAL) >= 0;
  ::shutdown(pair.ends[0], SHUT_WR);
  std::uint64_t arrived = 0;
  if (!receive_all(pair.ends[0], reinterpret_cast<char*>(&arrived), sizeof arrived)) return fail(EIO, "the other end of an AF_UNIX stream is gone");
  return static_cast<double>(arrived) / std::chrono::duration<double>(Clock::now() - begin).count();
}

Result<std::vector<double>> unix_pingpong(std::chrono::milliseconds duration) {
  SocketPair pair;
  if (auto made = make(pair, 0); !made) return std::unexpected(made.error());
  const Other echo(pair, [](int fd) {
    char message[64];
    while (receive_all(fd, message, sizeof message))
      if (::send(fd, message, sizeof message, MSG_NOSIGNAL) < 0) return;
  });
  if (!echo.started()) return fail(errno, std::string("fork: ") + std::strerror(errno));
  std::vector<double> times;
  char message[64] = {};
  const Clock::time_point end = Clock::now() + duration;
  while (Clock::now() < end) {
    const Clock::time_point begin = Clock::now();
    if (::send(pair.ends[0], message, sizeof message, MSG_NOSIGNAL) < 0 || !receive_all(pair.ends[0], message, sizeof message)) break;
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count() * 1e6);
  }
  return times;
}

}  // namespace stp::tools
