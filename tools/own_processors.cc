#include "tools/own_processors.h"

#include <sched.h>

#include <charconv>
#include <filesystem>
#include <string>
#include <system_error>

namespace stp::tools {
namespace {

bool apart = true;

// What this program was started with: the machine's processors, or those that taskset left of them.
const cpu_set_t& processors() {
  static const cpu_set_t all = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    (void)::sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  return all;
}

cpu_set_t half_of_them(Half half) {
  const cpu_set_t& all = processors();
  const int count = CPU_COUNT(&all);
  if (count < 2 || !apart) return all;
  cpu_set_t set;
  CPU_ZERO(&set);
  int seen = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    if ((seen++ < count / 2) == (half == Half::kFirst)) CPU_SET(cpu, &set);
  }
  return set;
}

// A thread that is gone needs no processor.
void keep_process(pid_t pid, const cpu_set_t& set) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ignored)) {
    const std::string name = entry.path().filename();
    pid_t thread = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), thread).ec == std::errc{}) (void)::sched_setaffinity(thread, sizeof set, &set);
  }
}

}  // namespace

void leave_to_scheduler() { apart = false; }

OwnProcessors::OwnProcessors(std::initializer_list<pid_t> first, std::initializer_list<pid_t> second) : all_(first) {
  for (const pid_t pid : first) keep_process(pid, half_of_them(Half::kFirst));
  for (const pid_t pid : second) keep_process(pid, half_of_them(Half::kSecond));
  all_.insert(all_.end(), second);
}

OwnProcessors::~OwnProcessors() {
  for (const pid_t pid : all_) keep_process(pid, processors());
}

OnHalf::OnHalf(Half half) {
  const cpu_set_t set = half_of_them(half);
  (void)::sched_setaffinity(0, sizeof set, &set);
}

OnHalf::~OnHalf() { (void)::sched_setaffinity(0, sizeof processors(), &processors()); }

}  // namespace stp::tools
