// What the preloaded library of `stp run` knows in a process: how it was started, and what was done to descriptors of sockets that are
// neither TCP's nor STP's yet. Everything else is asked of the kernel each time (run_address.h). Any thread.
#pragma once

#include <sys/epoll.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "hostlib/run_address.h"
#include "hostlib/run_protocol.h"
#include "hostlib/run_rules.h"

namespace stp::run {

// One of the agent's storage systems.
struct RunStorage {
  UnixName server;
  std::uint32_t own_ip = 0;  // 0: `stp run` is not served there
  std::uint32_t tag = 0;     // for the names of listening sockets
};

// From the environment, when the library is loaded: programs write over theirs later. In libstp, at the first call: there the
// agent is looked for where `stp run` did not tell.
struct RunSettings {
  bool on = false;  // false: every call goes to the kernel as it is
  bool says = false;  // STP_DEBUG=1
  uid_t user = 0;     // whose the agent is
  bool over_disk = false;  // no program of this host is reached but through the agent
  Network network;
  std::vector<RunStorage> storages;  // of the agent; at least one
  std::string program;
  RunRules rules;
};
const RunSettings& settings();
// The first one has what is bound to 0.0.0.0 or ::, and the names without an STG.
inline const RunStorage& first_storage() { return settings().storages.front(); }
// To which an address of the network belongs; the first one where it belongs to none.
const RunStorage& storage_of(std::uint32_t ip);
bool is_own(std::uint32_t ip);  // the address of this host in one of them

// The variable with the rules (run_rules.h); the one with everything else is kRunVariable.
inline constexpr const char* kMapVariable = "STP_MAP";

// One request to the agent: 0, or an errno.
int ask_agent(const RunStorage& storage, const RunCall& call, int* descriptor = nullptr, int patience_s = kRunPatienceS);

// A line on stderr with STP_DEBUG=1.
void say(const char* format, ...) __attribute__((format(printf, 1, 2)));

// What is remembered of a descriptor number until it is used for another socket.
enum class Mark : std::uint16_t {
  kYoung = 1,       // an internet stream socket, or one that is bound to a port of STP, not connected or listening yet
  kV6 = 2,
  kConnecting = 4,  // to STP, and the outcome was not told yet
  kNoDelay = 8,
  kCopied = 16,     // young, and dup(2) or its like gave the socket another number, which is marked, too
  kHolds = 64,      // one of the sockets for which the process holds a port (preload_hold.h)
  kResets = 32,     // its close is a reset: SO_LINGER of 0 seconds was told to the agent
  kToldReset = 128,  // that what reads as its end is one (preload_reset.h)
  kHere = 256,       // a conversation with another program of this host
  kAlone = 512,      // a Unix socket that is bound, or whose connect failed: its end is none (preload_reset.h)
  kEnded = 1024,     // a conversation with another program of this host in which this end sends no more
  kStp = 2048,       // an STP socket. Not known of what was inherited by exec, or came over another socket
  kNoted = 4096,     // what note_epoll() noted holds for it
};
// A number's marks end with close(2), dup2(2) and their like: a child of vfork(2), which has this memory and not these descriptors, changes none.
bool marked(int fd, Mark mark);
void set_mark(int fd, Mark mark, bool on);
void clear_marks(int fd);
// Before `fd` is closed.
void end_marks(int fd);
std::vector<int> all_marked(Mark mark);
// After dup(2) and its like: `copy`, if it is none that failed, is the socket `fd`, and nothing that it was before. No lock: a child of vfork(2), and a
// signal handler, may call it.
void note_copy(int fd, int copy);

// Registrations of young sockets in epoll, which go when another socket takes the number: register_again() makes them again, until they are forgotten.
void note_epoll(int epoll, int operation, int fd, const epoll_event* event);
void register_again(int fd);
void forget_epoll(int fd);

}  // namespace stp::run
