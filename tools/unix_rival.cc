#include "tools/unix_rival.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <thread>

namespace stp::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct SocketPair {
  int ends[2] = {-1, -1};
  ~SocketPair() {
    for (const int end : ends)
      if (end >= 0) ::close(end);
  }
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
  std::uint64_t arrived = 0;
  const Clock::time_point begin = Clock::now();
  {
    std::jthread taker([&] {
      std::vector<char> buffer(256 * 1024);
      for (ssize_t n = 0; (n = ::recv(pair.ends[1], buffer.data(), buffer.size(), 0)) > 0;) arrived += static_cast<std::uint64_t>(n);
    });
    const std::vector<char> data(send_bytes, 's');
    const Clock::time_point end = begin + duration;
    const int at_once = sends_between_looks(send_bytes);
    for (bool good = true; good && Clock::now() < end;)
      for (int i = 0; i < at_once && good; ++i) good = ::send(pair.ends[0], data.data(), data.size(), MSG_NOSIGNAL) >= 0;
    ::shutdown(pair.ends[0], SHUT_WR);
  }
  return static_cast<double>(arrived) / std::chrono::duration<double>(Clock::now() - begin).count();
}

Result<std::vector<double>> unix_pingpong(std::chrono::milliseconds duration) {
  SocketPair pair;
  if (auto made = make(pair, 0); !made) return std::unexpected(made.error());
  std::jthread echo([&] {
    char message[64];
    while (receive_all(pair.ends[1], message, sizeof message))
      if (::send(pair.ends[1], message, sizeof message, MSG_NOSIGNAL) < 0) return;
  });
  std::vector<double> times;
  char message[64] = {};
  const Clock::time_point end = Clock::now() + duration;
  while (Clock::now() < end) {
    const Clock::time_point begin = Clock::now();
    if (::send(pair.ends[0], message, sizeof message, MSG_NOSIGNAL) < 0 || !receive_all(pair.ends[0], message, sizeof message)) break;
    times.push_back(std::chrono::duration<double>(Clock::now() - begin).count() * 1e6);
  }
  ::shutdown(pair.ends[0], SHUT_RDWR);
  return times;
}

}  // namespace stp::tools
