// System calls that fail in one thread, as a broken disk, a full table or another kernel would make them.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <functional>
#include <thread>
#include <vector>

namespace stp::testing {

struct FailingCall {
  long number;              // SYS_...
  int error;
  unsigned argument = 0;    // fails only where this argument ...
  std::uint32_t mask = 0;   // ... has all these bits in its lower half; 0: always
};

// These calls fail in this thread from now on, and in those that it starts. False where the machine allows no such filter.
inline bool forbid_calls(const std::vector<FailingCall>& calls) {
  std::vector<sock_filter> filter;
  for (const FailingCall& call : calls) {
    filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call.number), 0, 4));
    // Little-endian: the lower half comes first.
    filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * call.argument)));
    filter.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, call.mask));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call.mask, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(call.error)));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Runs `body` in a thread for which they fail. False: it did not run.
inline bool with_failing(const std::vector<FailingCall>& calls, const std::function<void()>& body) {
  bool ran = false;
  std::thread([&] {
    ran = forbid_calls(calls);
    if (ran) body();
  }).join();
  return ran;
}

}  // namespace stp::testing

// The same in a test, which is skipped where there are no filters.
#define STP_WITH_FAILING(body, ...) \
  if (!::stp::testing::with_failing({__VA_ARGS__}, body)) GTEST_SKIP() << "no seccomp filters here"
