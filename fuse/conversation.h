// One conversation, as /net/N shows it: an STP socket that programs of several kinds connect, or announce and listen on, talk
// through, and look at, by opening files. It belongs to the user who opened `clone`, and lives while any of its files is open.
//
// Any thread may call; nothing blocks. What may take long is given a request, which can be interrupted, and a function that is
// called once, with an errno, or 0, when it has ended: in a loop's thread, or within the call when it fails at once.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "fuse/data_stream.h"
#include "hostlib/stp_address.h"
#include "hostlib/stp_dial.h"

namespace stp::view {

class Conversation;
class Conversations;

// Keeps a conversation alive: one for each open file.
class Held {
 public:
  Held() = default;
  Held(Held&& other) noexcept : conversation_(std::move(other.conversation_)) {}
  Held& operator=(Held&& other) noexcept {
    std::swap(conversation_, other.conversation_);
    return *this;
  }
  ~Held();
  explicit operator bool() const { return conversation_ != nullptr; }
  Conversation* operator->() const { return conversation_.get(); }
  Conversation& operator*() const { return *conversation_; }

 private:
  friend class Conversation;
  explicit Held(std::shared_ptr<Conversation> conversation) : conversation_(std::move(conversation)) {}
  std::shared_ptr<Conversation> conversation_;
};

struct Owner {
  uid_t user = 0;
  gid_t group = 0;
};

class Conversation : public std::enable_shared_from_this<Conversation> {
 public:
  using Done = std::function<void(int error)>;
  using Accepted = std::function<void(int error, Held conversation)>;

  // By Conversations.
  Conversation(std::weak_ptr<Conversations> all, Loops loops, std::uint32_t number, Owner owner);
  ~Conversation();

  std::uint32_t number() const { return number_; }
  Owner owner() const { return owner_; }

  // Nothing when the last file was closed already.
  Held hold();

  // EISCONN, EALREADY, EINVAL (announced, or hung up); else what the socket says. After a failure it may be tried again.
  void connect(std::shared_ptr<Request> request, StpAddress to, Done done);
  // Port 0: a free one. EACCES: a port below 1024, and the owner is not root, as the agent has it.
  void announce(std::uint16_t port, Done done);
  // The next connection to what is announced, a conversation of its own with the same owner. `wait` false: EAGAIN when there is none.
  void accept(std::shared_ptr<Request> request, bool wait, Accepted accepted);
  // Everything that waits, and comes, fails with ECONNABORTED. What was written goes on to the peer.
  void hang_up();
  // No more will be written. ENOTCONN.
  int end_sending();
  // Of what waits from now on. 0: none.
  void set_timeout(std::chrono::milliseconds span);

  bool announced() const;
  // Nothing unless it is connected, or was until it was hung up.
  std::shared_ptr<DataStream> stream() const;
  // Those that have `data` open for writing: after the last of them the peer sees the end of the stream.
  void add_writer();
  void remove_writer();

  // -- The text files. Each with its newline; empty when there is nothing to say.
  std::string status() const;
  std::string local() const;
  std::string remote() const;
  std::string error() const;
  // What the next look at error() shows.
  void note(std::string words);
  // The same, and gives the error.
  int refuse(int error, std::string words);

 private:
  friend class Held;
  enum class State : std::uint8_t { kIdle, kConnecting, kEstablished, kAnnouncing, kAnnounced, kHungUp };
  struct Accept {
    std::uint64_t id = 0;
    std::shared_ptr<Request> request;
    Accepted accepted;
  };

  void let_go();
  void dial(StpAddress to, std::uint64_t id);
  void dialled(std::uint64_t id, Result<StpSocket> socket);
  void stop_dialling(std::uint64_t id, int error);
  Result<void> listen(std::uint16_t port);
  void take_connections();
  int next_connection(Held& out);
  int adopt(StpSocket socket, State before, std::uint64_t connecting_id);
  void stop_accepting(std::uint64_t id, int error);
  void close(int error);
  void let_sockets_go();
  int unless_idle() const;

  const std::weak_ptr<Conversations> all_;
  const Loops loops_;
  const std::uint32_t number_;
  const Owner owner_;

  mutable std::mutex mutex_;
  State state_ = State::kIdle;
  unsigned files_ = 0;
  bool over_ = false;  // the last file was closed
  unsigned writers_ = 0;
  std::chrono::milliseconds timeout_{0};
  std::shared_ptr<DataStream> stream_;
  std::string local_, remote_;  // HOST!PORT
  std::uint64_t next_id_ = 1;
  Done connected_;
  std::uint64_t connecting_id_ = 0;
  std::deque<Accept> accepts_;
  mutable std::mutex words_mutex_;  // apart: streams note within their lock
  std::string words_;

  // Of the thread of the calls.
  std::shared_ptr<StpDial> dial_;
  StpSocket listener_;
  int watched_ = -1;
  Held unclaimed_;  // a connection that came for somebody who gave up waiting
};

}  // namespace stp::view
