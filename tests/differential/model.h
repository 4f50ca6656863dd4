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
  bool left_unread = false;  // the other end closed and had not read all
  int unread = 0;          // that it sent, at the most
  int queue = 0;           // of a listener: who waits for accept
  int room = 0;
};

class Model {
 public:
  // `share_rings`: both ends are programs of one agent, which is out of their way.
  explicit Model(bool share_rings) : share_rings_(share_rings) {}
  const Known& at(int slot) const { return slot < kSlots ? known_[static_cast<std::size_t>(slot)] : nothing_; }
  Plan plan(const Call& call, const States& states) const;
  // `outcome` is the kernel's, and `states` are those before the call.
  void learn(const Call& call, const Plan& plan, const Outcome& outcome, const States& states);

 private:
  Known& of(int slot) { return known_[static_cast<std::size_t>(slot)]; }
  int listener_at(int port) const;
  int free_slot() const;
  bool wants_nothing(int slot) const;
  bool shows_unread(const States& states) const;
  void leave(int slot, bool unread);

  bool share_rings_;
  std::array<Known, kSlots> known_{};
  Known nothing_;
};

}  // namespace stp::differential
