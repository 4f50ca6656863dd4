// The agent's Unix socket: lets programs in, hears what they want served, and hands them to the agent that does. One for all storage
// systems of a daemon. Who may use it is decided here.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent.h"

namespace stp::host {

// Users and groups by number. Deny wins over allow; empty lists allow everybody who can open the socket.
struct AgentAccess {
  std::vector<uid_t> allow_users, deny_users;
  std::vector<gid_t> allow_groups, deny_groups;
  bool allows(uid_t user, const std::vector<gid_t>& groups) const;
};

// Of whoever is connected to the Unix socket `fd`; `first` is its main group.
std::vector<gid_t> groups_of_peer(int fd, gid_t first);

class AgentDoor {
 public:
  // Makes the socket at `path` with `mode`; its folder is made if it is not there. One that a dead agent left is replaced, one
  // that an agent answers on is refused (EADDRINUSE).
  static Result<std::unique_ptr<AgentDoor>> open(const std::string& path, mode_t mode);
  ~AgentDoor();
  AgentDoor(const AgentDoor&) = delete;
  AgentDoor& operator=(const AgentDoor&) = delete;

  void set_access(AgentAccess access) { access_ = std::move(access); }
  // Lets programs in until `wake` (a descriptor) becomes readable, or for `longest_ms`.
  void serve(const std::vector<std::unique_ptr<Agent>>& agents, int wake, int longest_ms, const std::function<void(std::string_view)>& log);

 private:
  AgentDoor() = default;
  struct Guest {
    int fd = -1;
    Nanos until = 0;
  };
  void let_in();
  bool greet(Guest& guest, const std::vector<std::unique_ptr<Agent>>& agents, const std::function<void(std::string_view)>& log);
  static constexpr std::size_t kMostGuests = 256;

  int fd_ = -1;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  AgentAccess access_;
  Nanos closed_until_ = 0;
  std::vector<Guest> guests_;  // connected, and have not said hello
};

}  // namespace stp::host
