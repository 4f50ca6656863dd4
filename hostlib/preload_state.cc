#include "hostlib/preload_state.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "hostlib/preload_hold.h"
#include "hostlib/preload_real.h"

namespace stp::run {
namespace {

constexpr int kMostMarked = 1 << 16;  // descriptor numbers above it are left to the kernel
std::array<std::atomic<std::uint16_t>, kMostMarked> marks;
std::atomic<pid_t> process;  // whose marks these are

bool any_mark(int fd) { return fd >= 0 && fd < kMostMarked && marks[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed) != 0; }

struct Registration {
  int epoll = -1;
  epoll_event event = {};
};
// Never destroyed: threads may call while the process ends.
std::mutex& registrations_mutex() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}
std::unordered_map<int, std::vector<Registration>>& registrations() {
  static auto& map = *new std::unordered_map<int, std::vector<Registration>>;
  return map;
}

#ifdef STP_BSD_NAMES
bool find_agent(std::string& told) {
  const char* const path = std::getenv("STP_AGENT");
  char whole[PATH_MAX];
  const char* const agent = path != nullptr && *path != 0 ? path : "/run/stp/agent.sock";
  return ::realpath(agent, whole) != nullptr && find_run_server(whole, told) == 0;
}
#endif

// What kRunVariable says. False: it makes no sense.
bool read_agent(const std::string& all, RunSettings& out) {
  const std::size_t bar = all.find('|');
  const std::string path = all.substr(0, bar);
  std::vector<std::uint32_t> numbers;
  for (std::size_t at = bar; at != std::string::npos; at = all.find('|', at + 1)) {
    std::uint32_t number = 0;
    if (std::from_chars(all.data() + at + 1, all.data() + all.size(), number).ec != std::errc()) return false;
    numbers.push_back(number);
  }
  if (numbers.size() < 6 || numbers.size() % 2 != 0 || numbers[2] > kLongestPrefix) return false;
  out.user = numbers[0];
  out.network = {.base = numbers[1], .prefix = numbers[2]};
  out.over_disk = (numbers[3] & RunAnswer::kOverDisk) != 0;
  for (std::size_t i = 4; i < numbers.size(); i += 2)
    out.storages.push_back({.server = run_server_name(path.c_str(), static_cast<unsigned>(i - 4) / 2), .own_ip = numbers[i], .tag = numbers[i + 1]});
  return true;
}

RunSettings read_settings() {
  RunSettings out;
  const char* const debug = std::getenv("STP_DEBUG");
  out.says = debug != nullptr && std::strcmp(debug, "0") != 0 && *debug != 0;
  out.program = program_invocation_short_name;
  const char* const text = std::getenv(kRunVariable);
  std::string all = text != nullptr ? text : "";
#ifdef STP_BSD_NAMES
  if (all.empty() && !find_agent(all)) return out;
#endif
  if (all.empty()) return out;
  if (!read_agent(all, out)) {
    std::fprintf(stderr, "stp run: STP_RUN=\"%s\" makes no sense; set by `stp run` alone. Sockets are the kernel's\n", all.c_str());
    return out;
  }
  const char* const map = std::getenv(kMapVariable);
  auto rules = RunRules::parse(map != nullptr ? map : "");
  if (!rules) {
    std::fprintf(stderr, "stp run: STP_MAP: %s. Sockets are the kernel's\n", rules.error().c_str());
    return out;
  }
  out.rules = std::move(*rules);
  out.on = true;
  return out;
}

}  // namespace

static void look_after_forks();

const RunSettings& settings() {
  static const RunSettings& read = *new RunSettings([] {
    look_after_forks();
    return read_settings();
  }());
  return read;
}

#ifndef STP_BSD_NAMES
__attribute__((constructor)) static void start() {
  // Found now: a child of fork may close, and a signal handler read, when nothing can be looked up.
  (void)real_close(-1);
  (void)real_read(-1, nullptr, size_t{0});
  take_up_held();
}
#endif

// A thread that holds the lock at a fork is not there in the child.
static void look_after_forks() {
  process = ::getpid();
  (void)::pthread_atfork([] { registrations_mutex().lock(); }, [] { registrations_mutex().unlock(); },
                         [] {
                           process = ::getpid();
                           registrations_mutex().unlock();
                         });
}

const RunStorage& storage_of(std::uint32_t ip) {
  for (const RunStorage& each : settings().storages)
    if (settings().network.in_one_part(each.own_ip, ip)) return each;
  return first_storage();
}

bool is_own(std::uint32_t ip) {
  return std::ranges::any_of(settings().storages, [ip](const RunStorage& each) { return each.own_ip == ip && ip != 0; });
}

int ask_agent(const RunStorage& storage, const RunCall& call, int* descriptor, int patience_s) {
  RunAnswer answer;
  const int code = ask_run_server(storage.server, settings().user, call, answer, descriptor, patience_s);
  if (code == ENOENT || code == EPROTO) say("no agent answers (it ended, or is another user's)");
  return code;
}

void say(const char* format, ...) {
  if (!settings().says) return;
  char line[512];
  va_list list;
  va_start(list, format);
  const int n = std::vsnprintf(line, sizeof line, format, list);
  va_end(list);
  if (n > 0) ::dprintf(STDERR_FILENO, "stp run: %s[%d]: %s\n", settings().program.c_str(), static_cast<int>(::getpid()), line);
}

bool marked(int fd, Mark mark) {
  return fd >= 0 && fd < kMostMarked && (marks[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed) & static_cast<std::uint16_t>(mark)) != 0;
}

void set_mark(int fd, Mark mark, bool on) {
  if (fd < 0 || fd >= kMostMarked) return;
  const auto bit = static_cast<std::uint16_t>(mark);
  if (on)
    marks[static_cast<std::size_t>(fd)].fetch_or(bit, std::memory_order_relaxed);
  else
    marks[static_cast<std::size_t>(fd)].fetch_and(static_cast<std::uint16_t>(~bit), std::memory_order_relaxed);
}

void clear_marks(int fd) {
  if (fd >= 0 && fd < kMostMarked) marks[static_cast<std::size_t>(fd)].store(0, std::memory_order_relaxed);
}

std::vector<int> all_marked(Mark mark) {
  std::vector<int> out;
  for (int fd = 0; fd < kMostMarked; ++fd)
    if (marked(fd, mark)) out.push_back(fd);
  return out;
}

void end_marks(int fd) {
  if (any_mark(fd) && process.load(std::memory_order_relaxed) == ::getpid()) clear_marks(fd);
}

void note_copy(int fd, int copy) {
  if (copy < 0 || copy == fd || (!any_mark(fd) && !any_mark(copy)) || process.load(std::memory_order_relaxed) != ::getpid()) return;
  clear_marks(copy);
  if (fd < 0 || fd >= kMostMarked || copy >= kMostMarked) return;
  if (marked(fd, Mark::kYoung)) set_mark(fd, Mark::kCopied, true);
  const std::uint16_t all = marks[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed);
  marks[static_cast<std::size_t>(copy)].store(static_cast<std::uint16_t>(all & ~static_cast<std::uint16_t>(Mark::kNoted)), std::memory_order_relaxed);
}

void note_epoll(int epoll, int operation, int fd, const epoll_event* event) {
  const std::lock_guard lock(registrations_mutex());
  auto& list = registrations()[fd];
  if (!marked(fd, Mark::kNoted)) list.clear();  // of another socket that had the number
  set_mark(fd, Mark::kNoted, true);
  std::erase_if(list, [epoll](const Registration& each) { return each.epoll == epoll; });
  if (operation != EPOLL_CTL_DEL && event != nullptr) list.push_back({.epoll = epoll, .event = *event});
}

void register_again(int fd) {
  if (!marked(fd, Mark::kNoted)) return;
  std::vector<Registration> list;
  {
    const std::lock_guard lock(registrations_mutex());
    const auto it = registrations().find(fd);
    if (it == registrations().end()) return;
    list = it->second;
  }
  for (Registration& each : list) (void)real_epoll_ctl(each.epoll, EPOLL_CTL_ADD, fd, &each.event);
}

void forget_epoll(int fd) { set_mark(fd, Mark::kNoted, false); }

}  // namespace stp::run
