// For test programs that link crash_at_call.cc: a child process that dies at the n-th of its calls that change a file. The calls of the C library are
// replaced in the whole program, and do as ever until a child is to die.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace stp {

struct CrashAtCall {
  enum class When : std::uint8_t {
    kBefore,  // nothing of the call
    kDuring,  // of a write, some sectors of 512 bytes; else as before
    kAfter,
  };
  std::uint32_t call = 0;
  When when = When::kBefore;
  // As if the machine had died: of the writes since the last fsync of their file those land whose bit is set, in their order (beyond 64: all).
  // Without it the process alone dies, and all have landed.
  bool machine_dies = false;
  std::uint64_t landing = ~std::uint64_t{0};
};

struct CrashedChild {
  bool died = false;               // at that call; else `work` came to its end
  std::uint32_t writes_unsynced = 0;  // when it died
  int status = 0;                  // of the child otherwise
};

// Runs `work` in a child, from whose beginning calls count.
CrashedChild run_and_crash(const CrashAtCall& crash, const std::function<int()>& work);

}  // namespace stp
