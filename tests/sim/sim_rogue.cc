#include "tests/sim/sim_rogue.h"

namespace stp::sim {

SimRogue::SimRogue(SimContext context, SimProcess& process, SimMedium& medium)
    : context_(context),
      process_(process),
      medium_(medium),
      random_(process.random().split()),
      decisions_(random_.split()),
      writer_(context.plan.superblock, decisions_, [this](std::uint64_t block) { return context_.storage.look(block); }),
      buffer_(context.plan.superblock.geometry.block_size) {}

std::uint64_t SimRogue::RandomDecisions::near(std::uint64_t sensible) {
  switch (random_.below(24)) {
    case 0: return random_.next();
    case 1: return ~std::uint64_t{0} - random_.below(3);
    case 2:
    case 3: return sensible + random_.below(3);
    case 4: return static_cast<std::uint64_t>(random_.log_between(1, 1 << 30));
    default: return sensible;
  }
}

Nanos SimRogue::step() {
  IoCompletion done;
  while (medium_.reap({&done, 1}) == 1) busy_ = false;
  // Who broke the protocol is not listened to any more: it comes back as somebody new.
  if (random_.chance(0.01) && process_.self().state == MemberState::kMember) process_.board().want_rebirth(process_.self().identity.incarnation);
  if (process_.self().identity != was_) {
    was_ = process_.self().identity;
    writer_.begin_life(was_);
  }
  if (!busy_ && process_.self().state == MemberState::kMember) write_something();
  return random_.log_between(300 * kMicrosecond, 30 * kMillisecond);
}

void SimRogue::write_something() {
  std::vector<const Peer*> peers;
  for (const Peer& p : process_.view().peers)
    if (p.state == PeerState::kAlive) peers.push_back(&p);
  if (peers.empty()) return;
  const std::uint64_t place = writer_.next_block(buffer_.span(), peers[random_.below(peers.size())]->identity);
  busy_ = true;
  medium_.submit({.op = IoRequest::Op::kWrite, .block = place, .blocks = 1, .buffer = buffer_.data(), .token = 1});
  medium_.flush();
}

}  // namespace stp::sim
