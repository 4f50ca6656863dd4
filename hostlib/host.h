// The host that this process is part of, once it has joined: embedded in the process (embedded_host.h) or served by an agent
// (agent_host.h). The calls of the C API see only this. Under the runtime's lock.
#pragma once

#include <cerrno>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "hostlib/client_id.h"
#include "hostlib/waiting.h"
#include "stp/engine.h"
#include "stp/membership_board.h"

namespace stp::host {

class Host {
 public:
  virtual ~Host() = default;

  // Waits until this host is a member. The Error carries membership's words.
  virtual Result<void> wait_until_member(std::unique_lock<std::mutex>& lock, const std::function<void(std::string_view)>& progress) = 0;
  // The end of the process: waits until what was accepted has arrived (bounded), and takes leave (bounded). The
  // sockets were closed already. Afterwards nothing of this object may be used; it is never destroyed then,
  // because threads of the program may still be inside it, parked.
  virtual void leave(std::unique_lock<std::mutex>& lock, Nanos linger) = 0;
  // Before a fork, and after it in the parent: with the lock.
  virtual void before_fork() {}
  virtual void after_fork_in_parent() {}
  // In the child of a fork: gives up what the child shares with its parent. Async-signal-safe. Nothing of this may be used then, unless the
  // first call of the child that needs it could take it up again.
  virtual void abandon_after_fork() = 0;
  // kNotYet: it may go better at the next call. kAlone: what was open is the parent's.
  enum class Resumed { kNot, kNotYet, kAlone, kWithSockets };
  virtual Resumed resume_after_fork() { return Resumed::kNot; }

  virtual SocketCalls& sockets() = 0;
  virtual Waiting& waiting() = 0;
  // Nobody asks after a closed socket any more.
  virtual void forget(SocketId) {}

  // Sockets from one program of this host to another. Only an agent can do that.
  virtual SocketResult<ClientId> client_id() { return std::unexpected(SocketError{ENOTSUP, Reason::kNeedsAgent}); }
  virtual SocketResult<void> give(SocketId, int /*descriptor*/, const ClientId& /*taker*/) { return std::unexpected(SocketError{ENOTSUP, Reason::kNeedsAgent}); }
  virtual SocketResult<SocketId> take(const ClientId& /*giver*/, int /*descriptor*/) { return std::unexpected(SocketError{ENOTSUP, Reason::kNeedsAgent}); }

  // Who is there, as known now.
  virtual MembershipBoard::View view() = 0;
  virtual const Superblock& superblock() const = 0;
  // The instance name that this host has, "alpha~2"; the base name until it has joined.
  virtual std::string own_name() = 0;
  virtual const std::string& base_name() const = 0;
  // Has membership read the leases as soon as it can.
  virtual void look_at_leases_now() = 0;
  virtual EngineCounters counters() = 0;

  // Twice the detection bound: no honest wait for a peer lasts longer.
  Nanos patience() const { return 2 * static_cast<Nanos>(superblock().timing.detection_ms()) * kMillisecond; }
};

}  // namespace stp::host
