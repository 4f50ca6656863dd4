// Another host: a further process of this executable, under a name of its own, playing a role.
//
// A role makes its STP calls, and talks with the test over its standard input and output, line by line.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace stp::test {

class PeerProcess {
 public:
  using Environment = std::vector<std::pair<std::string, std::string>>;
  // `host` becomes its STP_HOST. What `more` holds is set too.
  PeerProcess(const std::string& host, const std::string& role, const std::vector<std::string>& arguments = {},
              const Environment& more = {});
  ~PeerProcess();  // SIGKILL if it still runs
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  std::string read_line();  // empty at its end
  void tell(const std::string& line);
  void kill();              // SIGKILL, and waits until it is gone
  int wait();               // its exit status, or 128 + signal
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string unread_;
};

// The port that a role which listens says first.
std::uint16_t announced_port(PeerProcess& peer);

// For main(): plays the role if the arguments ask for one, and gives the exit status; else -1.
int play_role(int argc, char** argv);

}  // namespace stp::test
