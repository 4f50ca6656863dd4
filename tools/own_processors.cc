#include "tools/own_processors.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <tuple>

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

// 0 where the kernel does not say: they are told apart by their numbers then.
int topology(int processor, const char* what) {
  int value = 0;
  std::ifstream(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", processor, what)) >> value;
  return value;
}

cpu_set_t make_half(Half half) {
  const cpu_set_t& all = processors();
  std::vector<Processor> each;
  for (int number = 0; number < CPU_SETSIZE; ++number)
    if (CPU_ISSET(number, &all)) each.push_back({number, topology(number, "physical_package_id"), topology(number, "core_id")});
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int number : half_of(std::move(each), half)) CPU_SET(number, &set);
  return set;
}

const cpu_set_t& half_of_them(Half half) {
  if (!apart || CPU_COUNT(&processors()) < 2) return processors();
  static const cpu_set_t first = make_half(Half::kFirst), second = make_half(Half::kSecond);
  return half == Half::kFirst ? first : second;
}

// A thread that is gone needs no processor, nor does a process that ends while its threads are gone through.
void keep_process(pid_t pid, const cpu_set_t& set) {
  std::error_code gone;
  for (std::filesystem::directory_iterator thread(fmt::format("/proc/{}/task", pid), gone), end; !gone && thread != end; thread.increment(gone)) {
    const std::string name = thread->path().filename();
    pid_t id = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), id).ec == std::errc{}) (void)::sched_setaffinity(id, sizeof set, &set);
  }
}

}  // namespace

std::vector<int> half_of(std::vector<Processor> all, Half half) {
  std::ranges::sort(all, {}, [](const Processor& p) { return std::tuple(p.package, p.core, p.number); });
  const std::size_t first = all.size() / 2;
  std::vector<int> numbers;
  for (std::size_t i = 0; i < all.size(); ++i)
    if ((i < first) == (half == Half::kFirst)) numbers.push_back(all[i].number);
  return numbers;
}

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
  const cpu_set_t& set = half_of_them(half);
  (void)::sched_setaffinity(0, sizeof set, &set);
}

OnHalf::~OnHalf() { (void)::sched_setaffinity(0, sizeof processors(), &processors()); }

}  // namespace stp::tools
