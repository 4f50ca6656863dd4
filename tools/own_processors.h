// Two hosts that are measured on one machine, as if each had a machine of its own: one host keeps to the first half of the
// processors that this program may use and the other to the second, and so do the two sides of a rival. Left to itself a scheduler puts two
// processes that wake each other now on one processor and now on two, for minutes at a time; two machines never share one, and a
// ratio whose two sides were placed differently says nothing. Where there is one processor, or where leave_to_scheduler() was called,
// nothing is kept apart.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <vector>

namespace stp::tools {

enum class Half { kFirst, kSecond };

// One as the kernel numbers it, and the package and core that it is a part of (/sys/devices/system/cpu/cpuN/topology).
struct Processor {
  int number = 0;
  int package = 0;
  int core = 0;
};
// Numbers of those in a half: a core's hyperthreads lie in the same one, and so do a package's cores, where that comes out even.
std::vector<int> half_of(std::vector<Processor> all, Half half);

// For the whole of this program, before anything is kept to a half.
void leave_to_scheduler();

// All threads of these processes, and what they start later, until this is destroyed. A process that is gone is passed over.
class OwnProcessors {
 public:
  OwnProcessors(std::initializer_list<pid_t> first, std::initializer_list<pid_t> second);
  ~OwnProcessors();
  OwnProcessors(const OwnProcessors&) = delete;
  OwnProcessors& operator=(const OwnProcessors&) = delete;

 private:
  std::vector<pid_t> all_;
};

// The calling thread alone, and what it starts meanwhile, until this is destroyed.
class OnHalf {
 public:
  explicit OnHalf(Half half);
  ~OnHalf();
  OnHalf(const OnHalf&) = delete;
  OnHalf& operator=(const OnHalf&) = delete;
};

}  // namespace stp::tools
