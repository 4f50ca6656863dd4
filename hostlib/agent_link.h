// A program's connection with its agent: requests and their answers, and the news board. Under the runtime's lock, but for dead().
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "hostlib/agent_protocol.h"
#include "hostlib/news_board.h"
#include "stp/superblock.h"

namespace stp::host {

class AgentLink {
 public:
  static constexpr unsigned kPatienceMs = 10'000;  // an agent answers in microseconds, or is stopped
  // Which storage and host the program wants to be served; empty: whichever the agent has.
  struct Wanted {
    std::string agent_path;
    std::string stg_path;
    std::string host;
    // On behalf of a child that is about to be forked: whose sockets it will have.
    std::uint32_t parent = 0;
    std::uint64_t parents_token = 0;
    unsigned patience_ms = kPatienceMs;
  };
  // Connects and says hello. Fails in words: no agent there, it serves another storage or name, or it does not let this user in.
  static Result<std::shared_ptr<AgentLink>> connect(const Wanted& wanted);
  ~AgentLink();
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;

  struct Reply {
    AgentAnswer answer;
    std::unique_ptr<Descriptors> descriptors;
    std::vector<std::byte> tail;
  };
  // One request and its answer. When the agent is gone or does not answer within a few seconds: ECONNRESET, and the link is dead.
  SocketResult<Reply> ask(const AgentCall& call);

  // A request that has no answer. False: the agent is gone.
  bool tell(const AgentCall& call);

  // Closes a socket that the agent made and this process can not take.
  void give_back(std::uint32_t socket);
  // The same of one that was given to this process: it may try again.
  void put_back(std::uint32_t socket);
  // How long an answer is waited for.
  void set_patience(unsigned ms);
  // Whether the descriptors are what they were: a child may have closed all that it did not know before it came here.
  bool still_ours() const;
  // They are not, and are left alone.
  void forget_descriptors() { fd_ = bell_ = agents_bell_ = -1; }
  // Whether an answer with a descriptor could be taken now: asked before a connection is accepted, which would be lost otherwise.
  bool room_for_descriptors() const;

  const Superblock& superblock() const { return superblock_; }
  // Of this program, as the agent knows it.
  std::uint32_t serial() const { return serial_; }
  std::uint64_t agents_life() const { return agents_life_; }
  const std::string& own_name() const { return own_name_; }
  NewsBoard& board() { return *board_; }
  // A socket of this program has something for the agent, or for the program at its other end.
  void tell_agent(std::uint32_t index);
  int fd() const { return fd_; }
  int bell() const { return bell_; }  // readable when there are news for the program
  bool dead() const { return dead_.load(std::memory_order_acquire); }
  void die() { dead_.store(true, std::memory_order_release); }
  // In the child of a fork: closes what it inherited. Async-signal-safe.
  void abandon();

 private:
  AgentLink() = default;
  Result<void> hello(const Wanted& wanted);
  int fd_ = -1;
  int bell_ = -1;
  int agents_bell_ = -1;
  NewsBoard* board_ = nullptr;
  Superblock superblock_;
  std::string own_name_;
  std::uint32_t serial_ = 0;
  std::uint64_t inodes_[3] = {};  // what the descriptors are
  std::uint64_t agents_life_ = 0;
  std::atomic<bool> dead_{false};
};

}  // namespace stp::host
