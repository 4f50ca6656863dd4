// What the preloaded library of `stp run` and the agent say to each other: on an abstract Unix socket (SOCK_SEQPACKET; reachable after chroot, too), a
// connection for each request, one request, one answer. Fixed fields in native byte order; both sides are on one machine.
//
// A conversation is a pair of connected Unix sockets, of which the program has one end and the agent the other.
//
// kConnect gives the program its end of a new pair (and takes no descriptors: to close somebody's may take for ever). It has the smallest
// send buffer and a hello in it, so that it is not writable: as a socket that connects. The agent holds both ends until STP's connect has ended.
// Connected: it names the program's end (C), gives it a proper buffer, lets it go, and takes the hello but for its last byte, which stays as
// the head (relay.h). Failed: it names the end with the errno (E) and closes the other, so that the program's becomes ready, with an error.
//
// A program that listens on TCP and STP alike ("both" of the rules) has a TCP socket, which is what it polls, accepts from and hands on; beside it the
// process holds the port's names (run_address.h). The agent brings to that socket what comes over STP, by TCP connections of its own
// from kTcpSource; the library asks it who is behind one (kBehind) when the program asks for the peer's address.
//
// A port that several processes have (SO_REUSEPORT) without one having it from the other: each has copies of the port's names, which the agent makes
// and gives (kShare). So the names are there as long as one of them is, whatever becomes of the others, or of the agent.
//
// kListen tells of a listening socket, by its name (L). The agent connects to it for each connection that comes, under a name that says
// from where (R). The program's side sends head_of() that name ahead of everything (the head, see relay.h). The agent looks every
// second which names are there still, and when it starts, which ones an agent before it knew.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "hostlib/run_address.h"

namespace stp::run {

inline constexpr std::uint32_t kRunVersion = 5;
// What the program's end has at least as its send buffer: the agent leaves the last byte in it that it took (relay.h), and with it a
// piece of up to 64 KiB; below four of these Linux does not call a socket writable.
inline constexpr int kSmallestSendBuffer = 208 * 1024;
inline constexpr std::uint32_t kTcpSource = 0x7f535450;  // 127.83.84.80
inline constexpr std::size_t kHelloBytes = 512;  // the last one in a message of its own

enum class RunRequest : std::uint32_t {
  kInfo = 1,     // who serves, and which addresses are STP's
  kResolve = 2,  // name -> ip. ENOENT
  kReverse = 3,  // ip -> name. ENOENT
  kListen = 4,   // port, backlog, flags. EADDRINUSE, EACCES; EOPNOTSUPP with kHeld: this kernel does not say whose a socket is
  kConnect = 5,  // ip, port, own port or 0, timeout_ms or 0; kOn as below. The answer brings the program's end; how it ends is seen there
  kResetWhenClosed = 6,  // name of a conversation's end (text_of; of one of this host its name C, with kAccepter for the end that has none): its close is to
                         // be a reset with kOn, else none any more. ENOENT, EPERM, ENOBUFS
  kBehind = 7,  // cookie (SO_COOKIE) of a TCP socket that was accepted, port that it came from at kTcpSource -> ip, port. ENOENT
  kShare = 8,  // port, kV6; for who has a socket there (S or B) -> a copy of the port's name (L) of that family, which the agent made for this user (run_shares.h). EADDRINUSE, EACCES,
               // ENOBUFS; EPERM: it can not for this user
  kUnshare = 9,  // port: what the agent has of its names is to go unless somebody uses it. EADDRINUSE; EAGAIN: it takes a moment
};

struct RunCall {
  std::uint32_t version = kRunVersion;
  RunRequest what = RunRequest::kInfo;
  std::uint32_t ip = 0;
  std::uint16_t port = 0;
  std::uint16_t own_port = 0;
  std::int32_t backlog = 0;
  std::uint32_t flags = 0;
  std::uint64_t cookie = 0;
  std::uint32_t timeout_ms = 0;
  std::uint32_t reserved = 0;
  std::array<char, 256> name{};

  static constexpr std::uint32_t kV6 = 1;
  static constexpr std::uint32_t kOn = 2;
  static constexpr std::uint32_t kHeld = 4;  // the port's names are held, and sockets share it or listen on TCP
  static constexpr std::uint32_t kAccepter = 8;
  static constexpr std::uint32_t kFull = 16;  // a program of this host listens there, and its queue is full
};
static_assert(sizeof(RunCall) == 40 + 256);

struct RunAnswer {
  std::uint32_t version = kRunVersion;
  std::int32_t error = 0;  // errno
  std::uint32_t ip = 0;    // kInfo: own; kResolve, kBehind
  std::uint32_t network = 0, prefix = 0;
  std::uint32_t storage = 0;  // kInfo: for the names of listening sockets
  std::uint32_t port = 0;     // kBehind
  std::uint32_t storages = 0;  // kInfo: of the agent
  std::uint32_t flags = 0;     // kInfo
  std::array<char, 128> host{};  // kInfo: own name; kReverse: HOST.stp
  std::array<char, 36> stg{};

  static constexpr std::uint32_t kOverDisk = 1;  // programs of this host talk to each other through the agent, too
};
static_assert(sizeof(RunAnswer) == 36 + 164);

// The abstract name under which the agent with that socket serves the preloaded library: for each of its storage systems, counted from 0, one.
UnixName run_server_name(const char* agent_path, unsigned number);

// The variable in which `stp run` tells a program who serves: AGENT-PATH|UID|NETWORK|PREFIX|FLAGS|OWN-IP|STORAGE, numbers decimal, with the last two again for
// each further storage system (0|0: none is served there).
inline constexpr unsigned kMostStorages = 64;  // of one agent
inline constexpr const char* kRunVariable = "STP_RUN";
// Asks the agent with that socket (a path without links in it) who it is, for that variable. 0, or an errno: ENOENT nobody serves there, EPERM who does is
// neither root nor this user nor the owner of that socket, and only pretends.
int find_run_server(const std::string& agent_path, std::string& told);

// One request. 0, or an errno: ENOENT nobody serves, EPROTO (also: not that user's). `server` must run as `user`, or as root. What comes with
// the answer is the caller's.
inline constexpr int kRunPatienceS = 20;
int ask_run_server(const UnixName& server, uid_t user, const RunCall& call, RunAnswer& answer, int* descriptor = nullptr, int patience_s = kRunPatienceS);

// What goes ahead in a conversation under that name (R): nothing that a program would begin with by chance.
using Head = std::array<std::byte, 12>;
Head head_of(const SocketName& name);

}  // namespace stp::run
