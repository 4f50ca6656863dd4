// Listens on STP for unmodified programs, and brings what comes to the Unix sockets that they listen on, by their names. Which there are is
// looked up in the kernel's list of Unix sockets, once a second and when the agent starts; a program tells of a new one itself.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>

#include "hostlib/event_loop.h"
#include "hostlib/run_protocol.h"
#include "hostlib/stp_socket.h"
#include "tools/run_conversations.h"
#include "tools/run_hosts.h"

namespace stp {

class RunListeners {
 public:
  RunListeners(EventLoop& loop, const RunHosts& hosts, RunConversations& conversations) : loop_(loop), hosts_(hosts), conversations_(conversations) {}
  ~RunListeners();
  RunListeners(const RunListeners&) = delete;
  RunListeners& operator=(const RunListeners&) = delete;

  // kListen: 0 or an errno.
  int listen(const run::RunCall& call, uid_t user);
  // Takes up what programs listen on already, gives up what they do not any more.
  void look();
  void close_all();

 private:
  // The sockets that have a port's names, by their inodes. IPv4's and IPv6's (true) may listen side by side.
  using Names = std::map<bool, std::uint64_t>;
  struct Listener;
  struct Arriving;

  int open(std::uint16_t port, int backlog, std::shared_ptr<Listener>& opened);
  void close(std::uint16_t port);
  void look_again_later();
  bool read_names(std::map<std::uint16_t, Names>& names) const;  // false: not all of them
  void accept(const std::shared_ptr<Listener>& listener);
  void deliver(const std::shared_ptr<Arriving>& arriving);
  enum class Delivery { kDone, kFull, kNobody };
  Delivery try_to_deliver(const std::shared_ptr<Arriving>& arriving);
  static bool is_rightful(Listener& listener, int connected);

  EventLoop& loop_;
  const RunHosts& hosts_;
  RunConversations& conversations_;
  std::map<std::uint16_t, std::shared_ptr<Listener>> listeners_;
  bool looks_later_ = false;
};

}  // namespace stp
