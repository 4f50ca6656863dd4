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
  // An heir's life is not its maker's: of it nothing but the connection is watched.
  int welcome(const AgentAnswer& answer, ConstBytes superblock, bool heir);

  // What an epoll of the agent is to hear of it: the connection, its bell, its end.
  enum class Watched : std::uint32_t { kConnection, kBell, kProcess };
  int watch(int epoll) const;  // 0 or an errno
  void unwatch(int epoll) const;

  std::uint32_t serial() const { return serial_; }
  int fd() const { return fd_; }
  uid_t user() const { return who_.uid; }
  pid_t pid() const { return who_.pid; }
  // An heir begins when its child takes the sockets up; one that never does (it execs, or ends) has not used them.
  void begin(pid_t pid) {  // to be shown, not to be trusted
    who_.pid = pid;
    begun_ = true;
  }
  bool begun() const { return begun_; }
  // For the hello of one child. Good once, so that nobody who knows old ones gets what is opened later. 0: none was given out.
  std::uint64_t heirs_token() const { return heirs_token_; }
  void set_heirs_token(std::uint64_t token) { heirs_token_ = token; }

  // Its sockets, by their index on the news board.
  bool has_room() const { return !free_indexes_.empty() || numbers_.size() < kMostSocketsOfAProgram; }
  std::uint32_t take(AgentSocket& socket);  // where there is room; its index
  void give_back(AgentSocket& socket);
  // For a program just made: the sockets of `parent` for which keep(number) gives a socket, under the same indexes.
  template <class Keep>
  void inherit(const AgentProgram& parent, Keep keep) {
    numbers_.assign(parent.numbers_.size(), 0);
    for (std::uint32_t index = 0; index < numbers_.size(); ++index) {
      AgentSocket* const socket = parent.numbers_[index] != 0 ? keep(parent.numbers_[index]) : nullptr;
      if (socket == nullptr) {
        free_indexes_.push_back(index);
        continue;
      }
      numbers_[index] = socket->number;
      socket->holders.push_back({serial_, index});
    }
  }
  const std::vector<std::uint32_t>& numbers() const { return numbers_; }  // of the sockets, 0 = free
  std::size_t held() const { return numbers_.size() - free_indexes_.size(); }

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
  std::uint64_t heirs_token_ = 0;
  bool begun_ = true;
  int pidfd_ = -1;
  int bell_ = -1;         // our end of a socket pair: what is sent here wakes it. Not an eventfd, whose flags the program would share
  int agents_bell_ = -1;  // written by it, and never read here: each write is an event for the epoll, and a read might block
  NewsBoard* board_ = nullptr;
  ucred who_ = {};
  std::vector<std::uint32_t> numbers_;
  std::vector<std::uint32_t> free_indexes_;
};

}  // namespace stp::host
