#include "tests/api/peer_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>

#include "tests/api/fixture.h"

namespace stp::test {
namespace {

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> environment_with(PeerProcess::Environment more) {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    bool replaced = false;
    for (const auto& [key, value] : more) replaced = replaced || key == name;
    if (!replaced) out.push_back(text);
  }
  for (const auto& [key, value] : more) out.push_back(key + "=" + value);
  return out;
}

}  // namespace

PeerProcess::PeerProcess(const std::string& host, const std::string& role, const std::vector<std::string>& arguments,
                         const Environment& more) {
  std::array<int, 2> in{}, out{};
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2 failed";
    return;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::vector<std::string> words = {"peer", "--role", role};
  words.insert(words.end(), arguments.begin(), arguments.end());
  Environment settings = more;
  settings.emplace_back("STP_HOST", host);
  const bool says_agent = std::ranges::any_of(more, [](const auto& setting) { return setting.first == "STP_AGENT"; });
  if (!says_agent) settings.emplace_back("STP_AGENT", agent_of(host));
  std::vector<std::string> variables = environment_with(settings);
  EXPECT_EQ(::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, pointers(words).data(), pointers(variables).data()), 0);
  posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
}

PeerProcess::~PeerProcess() {
  kill();
  ::close(to_);
  ::close(from_);
}

std::string PeerProcess::read_line() {
  for (;;) {
    if (const auto end = unread_.find('\n'); end != std::string::npos) {
      const std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    std::array<char, 512> part{};
    const ssize_t got = ::read(from_, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    unread_.append(part.data(), static_cast<std::size_t>(got));
  }
}

void PeerProcess::tell(const std::string& line) {
  const std::string whole = line + "\n";
  EXPECT_EQ(::write(to_, whole.data(), whole.size()), static_cast<ssize_t>(whole.size()));
}

void PeerProcess::kill() {
  if (pid_ <= 0) return;
  (void)::kill(pid_, SIGKILL);
  (void)wait();
}

int PeerProcess::wait() {
  if (pid_ <= 0) return -1;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::uint16_t announced_port(PeerProcess& peer) {
  std::istringstream line(peer.read_line());
  std::string word;
  std::uint16_t port = 0;
  line >> word >> port;
  EXPECT_EQ(word, "port") << line.str();
  return port;
}

}  // namespace stp::test
