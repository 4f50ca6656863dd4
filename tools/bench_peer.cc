#include "tools/bench_peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

namespace stp::tools {

Result<BenchPeer> BenchPeer::start(const std::string& role, const std::string& stg, const std::string& host, const std::string& agent) {
  int commands[2], answers[2];
  if (::pipe2(commands, O_CLOEXEC) != 0) return fail(errno, fmt::format("no pipe for the process of host \"{}\": {}", host, std::strerror(errno)));
  if (::pipe2(answers, O_CLOEXEC) != 0) {
    const int error = errno;
    ::close(commands[0]);
    ::close(commands[1]);
    return fail(error, fmt::format("no pipe for the process of host \"{}\": {}", host, std::strerror(error)));
  }
  const char* const arguments[] = {"stp", "bench-role", role.c_str(), "--stg", stg.c_str(), "--host", host.c_str(), "--agent", agent.c_str(), nullptr};
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(commands[0], STDIN_FILENO);
    ::dup2(answers[1], STDOUT_FILENO);
    ::execv("/proc/self/exe", const_cast<char* const*>(arguments));
    ::_exit(127);
  }
  const int error = errno;
  ::close(commands[0]);
  ::close(answers[1]);
  BenchPeer peer;
  peer.host_ = host;
  peer.pid_ = pid;
  peer.to_ = ::fdopen(commands[1], "w");
  peer.from_ = ::fdopen(answers[0], "r");
  if (pid < 0) return fail(error, fmt::format("no process for host \"{}\": {}", host, std::strerror(error)));
  return peer;
}

BenchPeer::BenchPeer(BenchPeer&& other) noexcept
    : host_(std::move(other.host_)),
      pid_(std::exchange(other.pid_, -1)),
      to_(std::exchange(other.to_, nullptr)),
      from_(std::exchange(other.from_, nullptr)) {}

BenchPeer::~BenchPeer() {
  if (to_ != nullptr) std::fclose(to_);
  if (pid_ > 0) {
    constexpr int kPatienceMs = 20'000, kLookMs = 20;  // leaving the group takes a few beats
    int waited = 0;
    while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
      if (waited >= kPatienceMs) ::kill(pid_, SIGKILL);
      ::usleep(kLookMs * 1000);
      waited += kLookMs;
    }
  }
  if (from_ != nullptr) std::fclose(from_);
}

Result<std::vector<double>> BenchPeer::answer() {
  char* line = nullptr;
  std::size_t room = 0;
  const ssize_t length = ::getline(&line, &room, from_);
  std::string text(line == nullptr || length < 0 ? "" : line, length < 0 ? 0 : static_cast<std::size_t>(length));
  std::free(line);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (length < 0) return fail(EPIPE, fmt::format("the process of host \"{}\" ended", host_));
  if (text.starts_with("error ")) return fail(EIO, fmt::format("host \"{}\": {}", host_, text.substr(6)));
  std::istringstream words(text);
  std::vector<double> numbers;
  for (double number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

Result<std::vector<double>> BenchPeer::ask(const std::string& command) {
  std::fprintf(to_, "%s\n", command.c_str());
  std::fflush(to_);
  return answer();
}

Result<std::vector<double>> measure_connects(BenchPeer& far, BenchPeer& near, std::optional<double>& port, unsigned round_ms) {
  if (!port) {
    auto listening = far.ask("listen");
    if (!listening) return std::unexpected(listening.error());
    port = listening->at(0);
  }
  return near.ask(fmt::format("connects {} {}", *port, round_ms));
}

}  // namespace stp::tools
