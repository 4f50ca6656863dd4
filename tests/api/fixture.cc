#include "tests/api/fixture.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include "stp/formatter.h"
#include "stp/names.h"
#include "stp/storage.h"
#include "tests/patient_timing.h"

namespace stp::test {
namespace {

constexpr std::uint64_t kStorageBytes = 192 << 20;
constexpr long kTmpfsMagic = 0x01021994;

std::string& path() {
  static std::string made;
  return made;
}

int skip(const std::string& why) {
  std::printf("SKIPPED: %s\n", why.c_str());
  return 77;
}

struct RunningAgent {
  pid_t pid = -1;
  std::string socket;
};

std::map<std::string, RunningAgent>& agents() {
  static std::map<std::string, RunningAgent> running;
  return running;
}

std::string from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

RunningAgent start_agent(const std::string& host) {
  RunningAgent agent;
  agent.socket = path() + "." + host + ".sock";
  const std::string program = from_environment("STP_TEST_STPD");
  const std::string config = path() + ".toml";
  std::ofstream(config) << "given_for_s = 4\nmax_memory_mib = " << kMemoryOfAUserMib << "\n" << from_environment("STP_TEST_AGENT_CONFIG") << "\n";
  const pid_t test = ::getpid();
  agent.pid = ::fork();
  if (agent.pid == 0) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != test) ::_exit(1);
    ::execl(program.c_str(), "stpd", "--config", config.c_str(), "--stg", path().c_str(), "--host", host.c_str(), "--agent", agent.socket.c_str(), nullptr);
    ::_exit(127);
  }
  const bool can_start = valid_host_name(host);  // a test asks for one that can not
  for (int tries = 0; can_start && ::access(agent.socket.c_str(), F_OK) != 0; ++tries) {
    if (tries < 3000 && ::waitpid(agent.pid, nullptr, WNOHANG) == 0) {
      ::usleep(10'000);
      continue;
    }
    std::fprintf(stderr, "the agent of %s (%s) did not start\n", host.c_str(), program.c_str());
    std::abort();
  }
  return agent;
}

}  // namespace

bool shares_rings() { return served_by_agent() && from_environment("STP_TEST_AGENT_CONFIG").find("local_over_disk = true") == std::string::npos; }
bool all_served_by_agents() { return from_environment("STP_TEST_AGENT") == "all"; }
bool served_by_agent() { return all_served_by_agents() || from_environment("STP_TEST_AGENT") == "mine"; }

std::string agent_of(const std::string& host) {
  if (!all_served_by_agents() && !(served_by_agent() && host == kMyHost)) return "none";
  RunningAgent& agent = agents()[host];
  if (agent.pid < 0) agent = start_agent(host);
  return agent.socket;
}

pid_t agent_pid(const std::string& host) { return agents()[host].pid; }

bool halt_agent(const std::string& host) {
  const pid_t agent = agents()[host].pid;
  siginfo_t stopped = {};
  return agent > 0 && ::kill(agent, SIGSTOP) == 0 && ::waitid(P_PID, static_cast<id_t>(agent), &stopped, WSTOPPED) == 0;
}

void kill_agent(const std::string& host) {
  RunningAgent& agent = agents()[host];
  if (agent.pid <= 0) return;
  (void)::kill(agent.pid, SIGKILL);
  (void)::waitpid(agent.pid, nullptr, 0);
  (void)::unlink(agent.socket.c_str());  // so that the next one can be waited for
  agent.pid = -1;
}

void stop_agents() {
  for (auto& [host, agent] : agents()) {
    if (agent.pid <= 0) continue;  // never -1, which is everybody
    (void)::kill(agent.pid, SIGTERM);
    (void)::waitpid(agent.pid, nullptr, 0);
  }
  agents().clear();
}

const std::string& storage_path() { return path(); }

int make_storage(const char* timing) {
  const char* wanted = std::getenv("STP_TEST_MEDIUM");
  const bool mapped = wanted == nullptr || std::string_view(wanted) == "mapped";
  const char* directory = std::getenv("STP_TEST_DIR");
  const std::string where = mapped ? "/dev/shm" : (directory != nullptr ? directory : ".");
  struct statfs facts = {};
  if (mapped && (::statfs(where.c_str(), &facts) != 0 || facts.f_type != kTmpfsMagic))
    return skip("no tmpfs on /dev/shm for a mapped storage");
  path() = where + "/stp-api-test-" + std::to_string(::getpid());
  FormatRequest request;
  request.path = path();
  request.stg = "apitest";
  request.size_bytes = kStorageBytes;
  request.hosts = 8;
  request.sockets = 4096;
  request.medium = mapped ? MediumKind::kMapped : MediumKind::kDirect;
  request.timing = timing;
  const auto made = format_storage(request);
  if (!made) {
    std::fprintf(stderr, "can not make a storage for the test: %s\n", made.error().text.c_str());
    return 1;
  }
  if (request.timing == "fast" && !give_patient_timing(path(), *made)) {
    std::fprintf(stderr, "can not write the timings of the storage for the test\n");
    remove_storage();
    return 1;
  }
  if (!mapped) {
    const auto probed = probe_storage(path());
    if (!probed || !probed->direct_io) {
      remove_storage();
      return skip("no O_DIRECT on the file system of " + where);
    }
  }
  ::setenv("STP_STG", path().c_str(), 1);
  ::setenv("STP_HOST", kMyHost, 1);
  ::setenv("STP_AGENT", agent_of(kMyHost).c_str(), 1);
  return 0;
}

void remove_storage() {
  stop_agents();
  (void)::unlink(path().c_str());
  (void)::unlink((path() + ".toml").c_str());
}

sockaddr_stp address_of(std::string_view host, std::uint16_t port) {
  sockaddr_stp address = {};
  address.stp_family = AF_STP;
  address.stp_port = htons(port);
  std::memcpy(address.stp_system, host.data(), std::min(host.size(), sizeof address.stp_system - 1));
  return address;
}

Owned open_socket(int flags) {
  Owned s(STPsocket(AF_STP, SOCK_STREAM | flags, 0));
  EXPECT_GE(s.get(), 0) << STPstrerror(-1);
  return s;
}

std::uint16_t port_of(int s) {
  sockaddr_stp address = {};
  socklen_t length = sizeof address;
  EXPECT_EQ(STPgetsockname(s, raw(address), &length), 0) << STPstrerror(s);
  return ntohs(address.stp_port);
}

Owned listening_socket(int backlog) {
  Owned s = open_socket();
  const sockaddr_stp any = address_of("", 0);
  EXPECT_EQ(STPbind(s, raw(any), sizeof any), 0) << STPstrerror(s);
  EXPECT_EQ(STPlisten(s, backlog), 0) << STPstrerror(s);
  const timeval limit = {.tv_sec = 60, .tv_usec = 0};  // a test that fails should not hang; accepted sockets inherit it
  EXPECT_EQ(STPsetsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
  return s;
}

int connect_to(int s, std::string_view host, std::uint16_t port) {
  const sockaddr_stp peer = address_of(host, port);
  return STPconnect(s, raw(peer), sizeof peer);
}

Pair connected_pair() {
  Pair pair;
  const Owned listener = listening_socket();
  pair.client = open_socket();
  EXPECT_EQ(connect_to(pair.client, "", port_of(listener)), 0) << STPstrerror(pair.client);
  pair.server = Owned(STPaccept(listener, nullptr, nullptr));
  EXPECT_GE(pair.server.get(), 0) << STPstrerror(listener);
  return pair;
}

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(size);
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t value = random();
    std::memcpy(out.data() + at, &value, std::min(sizeof value, size - at));
  }
  return out;
}

bool send_all(int s, const std::vector<std::byte>& data) {
  std::size_t done = 0;
  while (done < data.size()) {
    const ssize_t sent = STPsend(s, data.data() + done, data.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    done += static_cast<std::size_t>(sent);
  }
  return true;
}

std::size_t fill(int s) {
  const std::vector<std::byte> part = pattern(256 * 1024);
  std::size_t total = 0;
  pollfd room = {.fd = s, .events = POLLOUT, .revents = 0};
  do {
    for (ssize_t sent = 0; (sent = STPsend(s, part.data(), part.size(), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;) total += static_cast<std::size_t>(sent);
    EXPECT_EQ(errno, EAGAIN) << STPstrerror(s);
  } while (errno == EAGAIN && STPpoll(&room, 1, 300) > 0);
  return total;
}

std::vector<std::byte> receive_exactly(int s, std::size_t size) {
  std::vector<std::byte> out(size);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = STPrecv(s, out.data() + done, size - done, 0);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  out.resize(done);
  return out;
}

std::vector<std::byte> receive_to_end(int s) {
  std::vector<std::byte> out;
  std::vector<std::byte> part(64 * 1024);
  for (;;) {
    const ssize_t got = STPrecv(s, part.data(), part.size(), 0);
    if (got == 0) errno = 0;
    if (got <= 0) return out;
    out.insert(out.end(), part.begin(), part.begin() + got);
  }
}

bool echoes(int s, std::size_t size) {
  const auto data = pattern(size);
  return send_all(s, data) && receive_exactly(s, size) == data;
}

}  // namespace stp::test
