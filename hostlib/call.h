// What every C function does first and last: refuses the child of a fork, takes the lock, finds the socket; at a failure
// sets errno and remembers reason and words for STPerror and STPstrerror.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "hostlib/runtime.h"
#include "stp/system.h"

namespace stp::host {

class Call {
 public:
  // kDescriptor: also that the number is still ours (a system call). kClose: one that was given away will do.
  // kData: as kTable, for calls that are to cost next to nothing.
  enum class Check : std::uint8_t { kTable, kDescriptor, kClose, kData };

  // `action` reads well before the object: "send to" (the peer), "bind" (the local port).
  Call(std::string_view action, int s, Check check);
  // A call without a socket.
  explicit Call(std::string_view action);

  // Does, without the lock, the write that the engine left to this call if it may block (see Waiting::step), and lets go that of another.
  ~Call();
  // This call may block for as long as the device takes for one small write.
  void may_carry_out() { may_carry_out_ = true; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // False: the call has failed already; return -1.
  bool good() const { return good_; }

  Runtime& runtime() { return runtime_; }
  std::unique_lock<std::mutex>& lock() { return lock_; }
  int number() const { return s_; }
  Socket& socket() { return *socket_; }
  Host& host() { return *runtime_.host(); }
  SocketCalls& sockets() { return host().sockets(); }
  Waiting& waiting() { return host().waiting(); }

  // Waits on the socket. 0 when it is worth looking again; else EAGAIN (deadline), EINTR or EBADF (closed by another
  // thread, or behind our back).
  int wait(std::uint32_t bits, Nanos deadline);

  // All return -1 with errno set. The first makes words of the reason; the peer is the socket's unless one is given.
  int fail(const SocketError& error, const Address* peer = nullptr);
  int fail(int code) { return fail(SocketError{code, Reason::kNone}); }
  int fail(int code, Reason reason, std::string words);
  // EAGAIN, EINPROGRESS: no news.
  int fail_quietly(int code);

 private:
  std::string action_with_object(const Address* peer, std::string& peer_name);

  Runtime& runtime_;
  std::unique_lock<std::mutex> lock_;
  std::string_view action_;
  int s_ = -1;
  Socket* socket_ = nullptr;
  std::shared_ptr<Socket> kept_;  // another thread may close it when the lock is let go; counting costs a data call as much as its copy
  bool good_ = false;
  bool may_carry_out_ = false;
};

}  // namespace stp::host
