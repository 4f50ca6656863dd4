// The conversations between two programs of this host that are to end with a reset: one of them set SO_LINGER to 0 seconds, and the Unix socket that is
// between them can not tell that. As long as there is a mark, the library in the program that reads the end says ECONNRESET instead
// (hostlib/preload_reset.h).
//
// A mark is a socket that listens under a name which says the conversation, whose close it is and the user who asked (A and Z, hostlib/run_address.h). Who reads believes it of the agent
// alone, and only for the user who is at the other end, as the kernel says: nobody resets what is between others.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "hostlib/event_loop.h"
#include "hostlib/run_address.h"
#include "hostlib/unique_fd.h"
#include "tools/run_hosts.h"

namespace stp {

class RunAborts {
 public:
  RunAborts(EventLoop& loop, const RunHosts& hosts) : loop_(loop), hosts_(hosts) {}
  RunAborts(const RunAborts&) = delete;
  RunAborts& operator=(const RunAborts&) = delete;

  // kResetWhenClosed, for the end that accepted or the one that connected. `conversation` is the text of its name (C). 0, ENOENT: there is no such conversation here, ENOBUFS: that user has too many.
  int set(const std::string& conversation, uid_t user, bool accepter, bool on);
  void close_all();

 private:
  struct Mark {
    UniqueFd socket;
    run::SocketName conversation;
    uid_t user = 0;
    EventLoop::Clock::time_point last_seen;  // the conversation
  };
  void look();
  void look_later();
  bool is_there(const run::SocketName& conversation) const;

  EventLoop& loop_;
  const RunHosts& hosts_;
  std::map<std::string, Mark> marks_;  // by their names
  std::map<uid_t, unsigned> of_user_;
  bool looks_later_ = false;
};

}  // namespace stp
