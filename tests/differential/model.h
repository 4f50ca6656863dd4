// What the comparison knows of the sockets of a sequence, from what both sides said alike: enough to leave out what would block or what is
// a listed difference.
#pragma once

#include <array>

#include "tests/differential/world.h"

namespace stp::differential {

struct Known {
  bool open = false;
  bool blocking = false;
  bool listening = false;
  bool aborts = false;     // by SO_LINGER
  bool began = false;      // to connect
  bool connected = false;  // once, at least
  bool read_shut = false;
  bool write_shut = false;
  bool named = false;      // the port that it was bound to
  int port = -1;           // which, of the named ones above 1024
  int target = -1;         // the named port that it connects to
  int peer = -1;           // the slot at the other end
  bool peer_ended = false;   // the other end sends no more, and said so in good order
  bool peer_closed = false;
  bool ended_then_reset = false;  // that one had shut both directions before it closed, which was to be a reset
  bool left_unread = false;  // the other end closed and had not read all
  bool failure_told = false;  // of its connect, by sending or receiving
  bool reset = false;         // a call said so
  int unread = 0;          // that it sent, at the most
  int queue = 0;           // of a listener: who waits for accept
  int room = 0;
  bool failed() const { return began && !connected; }  // to connect, or it is on its way
};

class Model {
 public:
  explicit Model(Way way) : way_(way) {}
  Way way() const { return way_; }
  const Known& at(int slot) const { return slot < kSlots ? known_[static_cast<std::size_t>(slot)] : nothing_; }
  Plan plan(const Call& call, const States& states) const;
  // `outcome` is the kernel's, and `states` are those before the call.
  void learn(const Call& call, const Plan& plan, const Outcome& outcome, const States& states);

 private:
  Plan plan_api(const Call& call, const States& states) const;
  Plan plan_run(const Call& call, Plan plan) const;  // what else is to be left out under `stp run`
  Known& of(int slot) { return known_[static_cast<std::size_t>(slot)]; }
  int listener_at(int port) const;
  int free_slot() const;
  bool wants_nothing(int slot) const;
  bool shows_unread(const States& states) const;
  void leave(int slot, bool unread);

  Way way_;
  std::array<Known, kSlots> known_{};
  Known nothing_;
};

}  // namespace stp::differential
