// A file that one host sends to another over as many connections as it takes: who receives says how much it has kept, who sends goes
// on from there. As stp-ftp does with its part files; what was received outlives the program that received it.
#pragma once

#include <optional>

#include "tests/sim/sim_process.h"

namespace stp::sim {

struct FileInTransfer {
  std::uint64_t id = 0;
  std::uint64_t size = 0;
  // On the receiver's disk:
  std::uint64_t kept = 0;
  bool whole = false;
  std::uint32_t connections = 0;  // that were made for it
  std::uint64_t resumed_at = 0;   // where the last one began
};

// One end of it, in one life of a program: tries again until it is over. Looks at its sockets again and again, so that it may be ended any time.
class SimTransfer {
 public:
  SimTransfer(SimContext context, SimProcess& process, FileInTransfer& file) : context_(context), process_(process), file_(file) {}
  void send_to(std::string host);
  void receive();
  bool over() const { return over_; }

 private:
  void look_again();
  void look();
  void look_as_sender(Engine& engine);
  void look_as_receiver(Engine& engine);
  void learn_offset(Engine& engine);
  void push(Engine& engine);
  void pull(Engine& engine);
  void give_up(Engine& engine);

  SimContext context_;
  SimProcess& process_;
  FileInTransfer& file_;
  std::string to_;  // empty: receives
  std::optional<SocketId> listener_, socket_;
  bool connected_ = false, shut_ = false, over_ = false;
  std::array<std::byte, 8> offset_{};
  std::size_t offset_moved_ = 0;
  std::uint64_t at_ = 0;
  Nanos not_before_ = 0;
};

}  // namespace stp::sim
