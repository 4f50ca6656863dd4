#include "tools/bench_agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace stp::tools {
namespace {

constexpr int kPatienceMs = 120'000;  // a first join waits for the writes of rivals to land
constexpr int kLookMs = 20;

}  // namespace

Result<std::unique_ptr<BenchAgent>> BenchAgent::start(const std::string& stg, const std::string& host) {
  std::error_code ignored;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path() / "stpd";
  std::unique_ptr<BenchAgent> agent(new BenchAgent);
  std::string folder = std::filesystem::temp_directory_path() / "stp-bench-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return fail(errno, fmt::format("no folder for an agent's socket: {}", std::strerror(errno)));
  agent->folder_ = folder;
  agent->path_ = folder + "/agent.sock";
  const std::string log = folder + "/log";
  const char* const arguments[] = {"stpd", "--stg", stg.c_str(), "--host", host.c_str(), "--agent", agent->path_.c_str(), "--max-sockets", "100000", nullptr};
  agent->pid_ = ::fork();
  if (agent->pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out >= 0) ::dup2(out, STDERR_FILENO);
    ::execv(program.c_str(), const_cast<char* const*>(arguments));
    ::_exit(127);
  }
  for (int waited = 0; agent->pid_ > 0 && waited < kPatienceMs; waited += kLookMs) {
    if (::waitpid(agent->pid_, nullptr, WNOHANG) != 0) {
      agent->pid_ = -1;
      break;
    }
    if (auto client = host::AgentClient::connect(agent->path_, stg)) {
      agent->client_ = std::make_unique<host::AgentClient>(std::move(*client));
      return agent;
    }
    ::usleep(kLookMs * 1000);
  }
  std::ifstream in(log);
  std::string said((std::istreambuf_iterator<char>(in)), {});
  return fail(EIO, fmt::format("the agent of host \"{}\" ({}) does not start: {}", host, program, said));
}

BenchAgent::~BenchAgent() {
  client_.reset();
  if (pid_ > 0) {
    ::kill(pid_, SIGTERM);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

// To the nanosecond, where /proc/PID/stat counts ticks: one of them is a quarter of what an idle host may take in two seconds.
double cpu_seconds_of(pid_t pid) {
  clockid_t clock = 0;
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

double memory_bytes_of(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/smaps_rollup", pid));
  std::string name;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    double kib = 0;
    if (words >> name && name == "Pss:" && words >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace stp::tools
