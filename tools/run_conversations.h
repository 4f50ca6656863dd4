// The conversations with other hosts that the agent carries on for unmodified programs, each a Relay, counted for each user.
//
// In the EventLoop's thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/event_loop.h"
#include "hostlib/run_address.h"
#include "hostlib/stp_socket.h"
#include "hostlib/unique_fd.h"
#include "tools/relay.h"

namespace stp {

class RunConversations {
 public:
  // `most_of_a_user`: that one user's programs may begin.
  RunConversations(EventLoop& loop, unsigned most_of_a_user) : loop_(loop), most_of_a_user_(most_of_a_user) {}

  bool has_room(uid_t user) const;
  // `name` is what the program's end goes by. `ended` is called when it is over, perhaps at once.
  void carry_on(UniqueFd kernel, KernelSide side, StpSocket stp_socket, std::vector<std::byte> head, uid_t user, const run::SocketName& name,
                std::function<void()> ended = nullptr);
  // Whether from now on the conversation of that name is reset when its program closes it. 0; ENOENT; EPERM: another user's.
  int reset_when_closed(const std::string& name, uid_t user, bool is_reset);
  void abort_all();

 private:
  struct One {
    std::weak_ptr<Relay> relay;
    uid_t user = 0;
  };
  EventLoop& loop_;
  const unsigned most_of_a_user_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, One> all_;
  std::map<std::string, std::uint64_t> by_name_;
  std::map<uid_t, unsigned> of_user_;
};

}  // namespace stp
