// What a program and its agent say to each other on the agent's Unix socket (SOCK_SEQPACKET): one request, one answer (but for
// those that have none), always begun by the program. Bytes of conversations never travel here, they lie in shadows (shadow.h); news neither (news_board.h).
//
// A message is a fixed head and a body of fixed fields in native byte order: both ends are on one machine, and the first exchange
// compares versions. Both sides check lengths and values: the other one is not trusted.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stp/error.h"
#include "stp/socket_calls.h"

namespace stp::host {

inline constexpr std::uint32_t kAgentProtocolVersion = 5;
inline constexpr const char* kDefaultAgentPath = "/run/stp/agent.sock";

enum class AgentRequest : std::uint32_t {
  kHello = 1,
  kOpen = 2,
  kBind = 3,
  kListen = 4,
  kAccept = 5,
  kConnect = 6,
  kClose = 7,
  kForget = 8,   // a closed socket's end is not waited for any more; has no answer
  kInfo = 9,     // peer, ports, and how many bytes were not acknowledged yet
  kBuffers = 10,
  kView = 11,
  kLook = 12,    // have the leases read now
  kStats = 13,
  kGive = 14,    // the socket leaves the program, for another one to take
  kTake = 15,
  kLetGo = 16,   // the program closes a socket that it shares: told whether others still have it; the last one closes it itself
  kBegin = 17,   // an heir begins: its process number
  kSockets = 18, // what sockets there are
  kFork = 19,    // a child is about to be forked: a token for its hello, good once
  kNudge = 20,   // tell all programs that have the socket
  kRead = 21,    // blocks of what describes the storage, as they lie there: no rings, no cache regions
};

// A request. Which fields mean something depends on `what`.
struct AgentCall {
  AgentRequest what = AgentRequest::kHello;
  std::uint32_t version = 0;    // kHello
  std::uint32_t socket = 0;     // kTake: the giver's descriptor number
  std::uint32_t number = 0;     // port, backlog, bytes; kSockets: to begin with; kHello: the parent's serial number; kGive, kTake: the taker's, the giver's; kBegin: pid; kRead: how many blocks
  std::uint32_t flags = 0;
  std::uint32_t descriptor = 0; // kGive: the giver's number of it
  std::uint64_t token = 0;      // kHello: the parent's token; kGive, kTake: of which life of the agent the serial number is; kRead: the first block
  std::uint64_t device = 0, inode = 0;  // kHello: of the storage as the program knows it; 0 when it does not
  std::array<char, 96> host{};  // kHello: wanted name; kConnect: the peer's
  std::array<char, 256> path{}; // kHello: of the storage

  static constexpr std::uint32_t kHeir = 1;           // kHello: on behalf of a child that is about to be forked
  static constexpr std::uint32_t kWaitForAccept = 1;  // kConnect
  static constexpr std::uint32_t kAbort = 1;          // kClose
  static constexpr std::uint32_t kQuietly = 2;        // kClose: has no answer; that it has come to its end is in the shadow
  static constexpr std::uint32_t kPutBack = 1;        // kGive: it was taken, and could not be used
  static constexpr std::uint32_t kSend = 1;           // kBuffers: the send buffer, else the receive window
};
static_assert(sizeof(AgentCall) == 48 + 352);

inline bool has_answer(const AgentCall& call) {
  return call.what != AgentRequest::kForget && (call.what != AgentRequest::kClose || (call.flags & AgentCall::kQuietly) == 0);
}

// An answer. Descriptors that come with it: kHello news board, a socket that wakes the program, an eventfd that wakes the agent; kOpen,
// kAccept and kTake the shadow.
struct AgentAnswer {
  std::int32_t error = 0;       // errno, 0: well
  std::uint32_t reason = 0;     // stp::Reason
  std::uint32_t socket = 0;     // kHello: the program's serial number; kSockets: where to go on, 0 = that was all
  std::uint32_t index = 0;      // of the socket on the news board
  std::uint32_t scb = 0;        // kNoScb: it has none
  std::uint32_t side = 0;       // of the shadow
  std::uint32_t port = 0;       // own port
  std::uint32_t peer_port = 0;
  std::uint64_t bytes = 0;      // kFork: the token; kOpen, kAccept, kTake: where in the shadow its header lies
  std::uint64_t life = 0;       // kHello: the agent's, different each time it is started
  std::array<char, 96> host{};  // kHello: own instance name; kAccept: the peer's
  std::array<char, 256> words{};  // of an error, where there are any
  std::uint32_t tail_bytes = 0; // kHello: superblock block; kView: a list of hosts (encode_hosts); kStats: AgentStats; kSockets: AgentSocketRows; kRead: the blocks
  std::uint32_t local = 0;      // kAccept, kConnect, kTake: 1 when the other side is a program of the same agent; kLetGo: 1 when others share it
  std::uint32_t kind = 0;       // kTake, kInfo: kPlain and so on
  std::uint32_t backlog = 0;    // kTake, kInfo: of a listener

  static constexpr std::uint32_t kPlain = 0, kListener = 1, kSession = 2;
};
static_assert(sizeof(AgentAnswer) == 48 + 352 + 16);
inline constexpr std::size_t kMostTail = 64 * 1024;

// Descriptors of one message; whoever takes one out owns it, the rest is closed.
class Descriptors {
 public:
  static constexpr std::size_t kMost = 3;
  Descriptors() = default;
  ~Descriptors() { clear(); }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;
  void clear();
  void add(int fd) { fds_.push_back(fd); }
  std::size_t size() const { return fds_.size(); }
  int at(std::size_t i) const { return i < fds_.size() ? fds_[i] : -1; }
  int take(std::size_t i);

 private:
  std::vector<int> fds_;
};

// Texts in fixed fields: cut when too long, always terminated when read.
template <std::size_t N>
void put_text(std::array<char, N>& field, std::string_view text) {
  field.fill(0);
  for (std::size_t i = 0; i + 1 < N && i < text.size(); ++i) field[i] = text[i];
}
template <std::size_t N>
std::string get_text(const std::array<char, N>& field) {
  std::size_t n = 0;
  while (n < N && field[n] != 0) ++n;
  return {field.data(), n};
}

// 0 or an errno. EPROTO: not a message. EMFILE: an answer whose descriptors this process had no room for. Sending and receiving block unless MSG_DONTWAIT is in `flags`.
int send_call(int fd, const AgentCall& call, int flags);
int receive_call(int fd, AgentCall& call, int flags);
int send_answer(int fd, const AgentAnswer& answer, std::span<const int> descriptors, ConstBytes tail, int flags);
int receive_answer(int fd, AgentAnswer& answer, Descriptors& descriptors, std::vector<std::byte>& tail, int flags);

}  // namespace stp::host
