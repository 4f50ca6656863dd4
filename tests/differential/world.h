// One side of the comparison: sockets in slots, and what each call does and gives there. STP and TCP differ in an Api (the same functions,
// with STP before their names or without) and in how an address is written; everything else is one code for both.
#pragma once

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include "tests/differential/call.h"
#include "tests/differential/excuses.h"

namespace stp::differential {

// What a call gave, in words that mean the same on both sides: no descriptors, no port numbers that the system chose.
struct Outcome {
  long result = 0;
  int error = 0;       // errno, when result is -1
  int signals = 0;     // SIGPIPEs that came
  int from = -1;       // the slot whose connection was accepted
  std::string detail;  // data, addresses, values
  bool operator==(const Outcome&) const = default;
};
std::string to_string(const Outcome& outcome);

// How a socket stands between calls.
struct State {
  short events = 0;  // poll(2)
  int readable = 0;  // FIONREAD, -1 where it fails
  bool operator==(const State&) const = default;
};
std::string to_string(const State& state);
using States = std::array<State, kSlots>;

// What the comparison decided about a call before both sides do it.
struct Plan {
  bool skip = false;                   // it might block, or ...
  std::optional<Excuse> excuse{};      // ... this one is known to differ
  bool at_once = false;  // with MSG_DONTWAIT
  int target = -1;       // the slot that a new socket gets
  int peer = -1;         // who is at the other end
  bool notice = false;   // the rival has to learn first that its peer has closed
};

// Between whom STP is compared.
struct Way {
  bool together = false;  // both ends have memory, or a Unix socket, in common: they know at once what the other one did
  bool run = false;       // unmodified programs, under `stp run`
};

struct Api {
  const char* name;
  int domain;
  int (*socket)(int, int, int);
  int (*bind)(int, const sockaddr*, socklen_t);
  int (*listen)(int, int);
  int (*connect)(int, const sockaddr*, socklen_t);
  int (*accept4)(int, sockaddr*, socklen_t*, int);
  ssize_t (*send)(int, const void*, size_t, int);
  ssize_t (*recv)(int, void*, size_t, int);
  ssize_t (*writev)(int, const iovec*, int);
  ssize_t (*readv)(int, const iovec*, int);
  int (*shutdown)(int, int);
  int (*close)(int);
  int (*getsockname)(int, sockaddr*, socklen_t*);
  int (*getpeername)(int, sockaddr*, socklen_t*);
  int (*getsockopt)(int, int, int, void*, socklen_t*);
  int (*setsockopt)(int, int, int, const void*, socklen_t);
  int (*fcntl)(int, int, int);
  int (*ioctl)(int, unsigned long, void*);
  int (*select)(int, fd_set*, fd_set*, fd_set*, timeval*);
  int (*poll)(pollfd*, nfds_t, int);
};

extern const Api kKernelApi;

class World {
 public:
  virtual ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const char* name() const { return api_.name; }
  Outcome perform(const Call& call, const Plan& plan);
  States states();
  bool holds(int slot) const { return slot < kSlots && fds_[static_cast<std::size_t>(slot)] >= 0; }
  void close_all();

 protected:
  struct Written {
    sockaddr_storage address = {};
    socklen_t length = 0;
  };
  World(const Api& api, int first_port);
  // What the rival has to do differently, to be held against what STP promises. Each is a listed difference.
  virtual int bind(int slot, const sockaddr* address, socklen_t length, int port) { (void)port; return api_.bind(fd(slot), address, length); }
  virtual int listen(int slot, int backlog) { return api_.listen(fd(slot), backlog); }
  virtual int shutdown(int slot, int how) { return api_.shutdown(fd(slot), how); }
  virtual void made(int slot) { (void)slot; }
  virtual void forget(int slot) { (void)slot; }  // it is closed now
  virtual void notice(int slot) { (void)slot; }
  virtual void between_calls() {}
  virtual Written write_address(int port, bool mine) const = 0;
  static Written internet_address(in_addr_t ip, int port);

  int fd(int slot) const;
  int port_number(int index) const;
  const Api& api_;
  std::array<int, kSlots> fds_{-1, -1, -1, -1, -1, -1, -1};

 private:
  struct Given;
  struct Vector;
  Given given_address(const Call& call) const;
  std::string port_words(in_port_t port, int about) const;
  std::optional<in_port_t> port_by(int (*function)(int, sockaddr*, socklen_t*), int slot) const;
  int slot_of_peer(int slot) const;
  Outcome outcome(long result, std::string detail = {}) const;
  Outcome named(const Call& call, int (*function)(int, sockaddr*, socklen_t*));
  Outcome make_socket(const Call& call, const Plan& plan);
  Outcome accept(const Call& call, const Plan& plan);
  Outcome send(const Call& call, const Plan& plan);
  Outcome receive(const Call& call, const Plan& plan);
  Outcome vector(const Call& call);
  Outcome get_option(const Call& call);
  Outcome set_option(const Call& call);
  Outcome fcntl(const Call& call);
  Outcome ioctl(const Call& call);
  Outcome select(const Call& call);
  Outcome poll(const Call& call);
  Outcome fill(const Call& call, const Plan& plan);
  bool becomes(int slot, short event);

  int first_port_;
  int file_;  // that is no socket
};

// Ports and addresses are new ones for each number.
std::unique_ptr<World> make_stp_world(unsigned number);
// STP under `stp run`: the kernel's calls, to this host's address there.
std::unique_ptr<World> make_run_world(unsigned number);
// `uses` counts where it had to be made to do what STP does.
std::unique_ptr<World> make_tcp_world(unsigned number, Way way, Uses& uses);

// SIGPIPE is counted instead of deadly.
void count_signals();

}  // namespace stp::differential
