// What membership and engine tell each other. Membership (its own thread, its own I/O) posts who is there; the
// engine reads that at every step, and posts its progress. Thread-safe; nobody holds the lock while doing I/O.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "stp/identity.h"
#include "stp/reason.h"
#include "stp/timing.h"

namespace stp {

enum class MemberState : std::uint8_t {
  kJoining,  // looking for a slot, or waiting out a claim
  kMember,
  kFenced,   // my lease ran out or my incarnation was refused: everything of it must fail, then I come back anew
  kLeaving,
  kLeft,
  kStopped,  // for good; `why` says it
};

struct Self {
  MemberState state = MemberState::kJoining;
  Identity identity;
  std::string name;            // instance name, e.g. "alpha~2"
  Reason reason = Reason::kNone;
  std::string why;             // words for kFenced and kStopped, or what joining is waiting for
  int error_code = 0;          // errno that goes with `why`
  std::string ended = {};      // why the life before this one ended; empty in the first one
};

enum class PeerState : std::uint8_t { kUnknown, kAlive, kDead, kLeft };

struct Peer {
  PeerState state = PeerState::kUnknown;
  Identity identity;
  std::string name;
  bool sees_me = false;     // its lease lists my incarnation as alive
  bool one_way = false;     // it had the time to see me and does not: not on the same disk
  bool refused_me = false;  // its lease says that it called my incarnation dead
  bool same_kernel = false;
  double silent_s = 0;      // since its beat last changed, counted by my successful reads
};

class MembershipBoard {
 public:
  struct View {
    Self self;
    std::vector<Peer> peers;  // by slot
    Slot slots_in_use = 0;    // one more than the highest slot that anybody holds or claims
    std::uint64_t version = 0;
  };

  // Membership's side.
  void post(View view) {
    std::lock_guard lock(mutex_);
    view.version = view_.version + 1;
    view_ = std::move(view);
    version_.store(view_.version, std::memory_order_release);
  }
  // Submit time of the last beat that completed; the lease is good until that + T_fence.
  void post_lease(Nanos good_until) { lease_good_until_.store(good_until, std::memory_order_release); }
  std::uint64_t progress() const { return progress_.load(std::memory_order_acquire); }
  bool take_nudge() { return nudge_.exchange(false, std::memory_order_acq_rel); }
  bool leave_wanted() const { return leave_.load(std::memory_order_acquire); }
  std::uint64_t quiesced_incarnation() const { return quiesced_.load(std::memory_order_acquire); }
  std::uint64_t rebirth_wanted() const { return rebirth_.load(std::memory_order_acquire); }

  // The engine's side.
  std::uint64_t version() const { return version_.load(std::memory_order_acquire); }
  View view() const {
    std::lock_guard lock(mutex_);
    return view_;
  }
  bool lease_good(Nanos now) const { return now < lease_good_until_.load(std::memory_order_acquire); }
  // Membership beats only while this goes up.
  void note_progress() { progress_.fetch_add(1, std::memory_order_acq_rel); }
  // Somebody unknown knocked at a gate: look at the leases now.
  void nudge() { nudge_.store(true, std::memory_order_release); }
  // Leave cleanly: called when the engine has finished. Once in kLeaving the engine must submit nothing more.
  void want_leave() { leave_.store(true, std::memory_order_release); }
  // All requests of the fenced or leaving incarnation were reaped, none will follow.
  void note_quiesced(std::uint64_t incarnation) { quiesced_.store(incarnation, std::memory_order_release); }
  // A peer's gate refuses this incarnation of mine: fence it and come back with a new one.
  void want_rebirth(std::uint64_t incarnation) { rebirth_.store(incarnation, std::memory_order_release); }

 private:
  mutable std::mutex mutex_;
  View view_;
  std::atomic<std::uint64_t> version_{0};
  std::atomic<Nanos> lease_good_until_{0};
  std::atomic<std::uint64_t> progress_{0};
  std::atomic<std::uint64_t> quiesced_{0};
  std::atomic<std::uint64_t> rebirth_{0};
  std::atomic<bool> nudge_{false};
  std::atomic<bool> leave_{false};
};

}  // namespace stp
