// A program that is connected to its agent: its connection, its news board, and which sockets it has. Internal to the agent.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <vector>

#include "hostlib/agent_protocol.h"
#include "hostlib/agent_socket.h"
#include "hostlib/news_board.h"

namespace stp::host {

class AgentProgram {
 public:
  // `fd` is its connection, which this object owns from now on.
  AgentProgram(std::uint32_t serial, int fd) : serial_(serial), fd_(fd) {}
  ~AgentProgram();
  AgentProgram(const AgentProgram&) = delete;
  AgentProgram& operator=(const AgentProgram&) = delete;

  // Makes what the two share, and sends it with the answer to the hello. 0 or an errno.
  int welcome(const AgentAnswer& answer, ConstBytes superblock);

  // What an epoll of the agent is to hear of it: the connection, its bell, its end.
  enum class Watched : std::uint32_t { kConnection, kBell, kProcess };
  int watch(int epoll) const;  // 0 or an errno
  void unwatch(int epoll) const;

  std::uint32_t serial() const { return serial_; }
  int fd() const { return fd_; }
  uid_t user() const { return who_.uid; }
  pid_t pid() const { return who_.pid; }

  // Its sockets, by their index on the news board.
  bool has_room() const { return !free_indexes_.empty() || numbers_.size() < kMostSocketsOfAProgram; }
  void take(AgentSocket& socket);  // where there is room
  void give_back(const AgentSocket& socket);
  const std::vector<std::uint32_t>& numbers() const { return numbers_; }  // of the sockets, 0 = free

  // There is news of a socket.
  void tell(std::uint32_t index);
  // Calls tell(number) for each socket of which the program has news.
  template <class Tell>
  void take_news(Tell tell) {
    board_->to_agent.take([&](std::uint32_t index) {
      if (index < numbers_.size() && numbers_[index] != 0) tell(numbers_[index]);
    });
  }

 private:
  const std::uint32_t serial_;  // never used again
  int fd_ = -1;
  int pidfd_ = -1;
  int bell_ = -1;         // our end of a socket pair: what is sent here wakes it. Not an eventfd, whose flags the program would share
  int agents_bell_ = -1;  // written by it, and never read here: each write is an event for the epoll, and a read might block
  NewsBoard* board_ = nullptr;
  ucred who_ = {};
  std::vector<std::uint32_t> numbers_;
  std::vector<std::uint32_t> free_indexes_;
};

}  // namespace stp::host
