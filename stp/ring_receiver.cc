#include "stp/ring_receiver.h"

#include <algorithm>

#include "stp/plant.h"

namespace stp {

void RingReceiver::start(const Identity& self, const Identity& peer) {
  self_ = self;
  peer_ = peer;
  open_ = true;
  hot_ = false;
  last_look_ = false;
  ++life_;
  taken_ = spoken_ = 0;
  announced_ = 0;
  span_ = 1;
  out_of_step_ = false;
  turn_ = kTurn;
  missing_since_ = 0;
  nothing_at_ = 0;
  programs_turn_ends_ = 0;
}

void RingReceiver::expect_answer(Nanos at) {
  if (at == mine_landed_) return;
  mine_landed_ = at;
  looks_since_ = 0;
  // Never for long: writes that land one after the other must not keep input waiting.
  next_look_ = std::max(next_look_, std::min(at + turn_, last_looked_ + kTurnEndsAfter));
}

void RingReceiver::on_doorbell(std::uint64_t head) {
  announced_ = std::max(announced_, head);
  if (open_ && announced_ > taken_ && !hot_) warm();
}

void RingReceiver::warm() {
  if (!open_) return;
  hot_ = true;
  last_look_ = false;
  active_at_ = core_.now;
  next_look_ = std::min(next_look_, std::max(core_.now, programs_turn_ends_));
}

bool RingReceiver::wants_to_cool() const {
  return open_ && hot_ && !last_look_ && announced_ <= taken_ && core_.now - active_at_ >= std::clamp(core_.gate_period + kCoolAfter / 4, kCoolAfter, kCoolAtLast);
}

void RingReceiver::cool() {
  if (!open_ || !hot_) return;
  last_look_ = true;
  next_look_ = core_.now;
}

Nanos RingReceiver::next_deadline() const {
  if (!open_ || !hot_) return kNever;
  switch (looking()) {
    case 0: return next_look_;
    case 1: return busy_pause_ == 0 && out_of_step_ && eager() ? std::max(last_looked_ + kApart, next_look_) : kNever;
    default: return kNever;
  }
}

void RingReceiver::poll(PacketHandler& handler, bool hold, Nanos slowest_when_busy) {
  busy_pause_ = slowest_when_busy;
  if (hold || core_.now < next_deadline()) return;
  look(handler, looks_[0].reading ? looks_[1] : looks_[0]);
}

void RingReceiver::look(PacketHandler& handler, Look& look) {
  const Geometry& g = core_.geometry();
  if (!look.buffer) look.buffer = AlignedBuffer(static_cast<std::size_t>(kMostSpan) * g.block_size);
  const auto at = static_cast<std::uint32_t>(taken_ % g.ring_blocks);
  look.first = taken_ + 1;
  look.blocks = std::min(std::max(span_, least_span()), g.ring_blocks - at);
  look.reading = true;
  look.began = last_looked_ = core_.now;
  core_.io.read(g.packet(peer_slot_, self_.slot, look.first), look.blocks, look.buffer.data(), [this, &handler, &look, life = life_](int error) {
    look.reading = false;
    if (life == life_ && open_) on_read(handler, look, error);
  });
}

// Called when a packet was found: is it an answer, and was it there at the first look after mine had landed? One that the peer's program took
// its time over says nothing about the next.
bool RingReceiver::learn_step() {
  if (mine_landed_ <= active_at_) return false;
  out_of_step_ = looks_since_ > 1 && core_.now - mine_landed_ <= kSlowTurn;
  if (core_.config.answers_from_afar) turn_ = out_of_step_ ? std::min(turn_ + kLongerTurn, kLongestTurn) : std::max(turn_ - kShorterTurn, kTurn);
  return true;
}

void RingReceiver::on_read(PacketHandler& handler, Look& look, int error) {
  const std::size_t size = core_.geometry().block_size;
  const std::uint64_t life = life_;
  // What the other look found in the meantime is passed over.
  const std::uint64_t end = look.first + look.blocks;
  const std::uint64_t before = taken_;
  while (error == 0 && taken_ + 1 < end && take(handler, {look.buffer.data() + (taken_ + 1 - look.first) * size, size})) {
    if (life != life_ || !open_) return;  // a message ended the pair
  }
  const bool overtaken = look.first <= before;
  if (look.began >= mine_landed_) ++looks_since_;
  const bool all = taken_ + 1 == end;
  if (taken_ > before) {
    const bool answer = learn_step();
    active_at_ = core_.now;
    missing_since_ = 0;
    last_look_ = false;
    if (!overtaken) span_ = all && (look.blocks > 1 || !answer) ? std::min(2 * std::max(span_, least_span()), kMostSpan) : std::max(span_ / 2, 1u);
  } else if (overtaken) {
    return;
  } else {
    span_ = 1;
    if (error == 0) nothing_at_ = look.began;
    if (announced_ > taken_) {
      if (missing_since_ == 0) missing_since_ = core_.now;
      if (core_.now - missing_since_ > kMissingBound) {
        ++core_.counters.damaged_packets;
        missing_since_ = core_.now;
      }
    }
    if (last_look_ && announced_ <= taken_) hot_ = false;
    last_look_ = false;
  }
  schedule(taken_ > before, all && look.blocks > 1);
}

// After a packet with none behind it the program has its turn first. Then no pause for a while; later pauses grow with the time
// since the last packet: an eighth of it, so that a reply after t is seen within 1.13 t.
void RingReceiver::schedule(bool found, bool more) {
  if (found) {
    programs_turn_ends_ = more ? 0 : core_.now + kAnswerFirst;
    next_look_ = std::max(core_.now + busy_pause_, programs_turn_ends_);
    return;
  }
  const Nanos idle = core_.now - active_at_;
  // A device that takes its time is pause enough.
  const Nanos least = core_.now - last_looked_ >= kSlowLook ? 0 : kShortestPause;
  const Nanos pause = std::clamp(idle < kEager ? 0 : idle / 8, std::max(busy_pause_, least), kLongestPause);
  next_look_ = core_.now + pause;
}

bool RingReceiver::take(PacketHandler& handler, ConstBytes block) {
  const std::uint64_t sequence = taken_ + 1;
  OpenedPacket packet = open_packet(block, core_.uuid(), core_.geometry(), peer_slot_, self_.slot, sequence);
  if (packet.fault != BlockFault::kNone) return false;
  // Exactly this pair of lives, exactly this sequence: everything else is an old write or somebody's past.
  const bool for_me = packet.addressee == self_ || planted(Plant::kSkipAddressee);
  if (!planted(Plant::kSkipIncarnation) && (packet.writer != peer_ || !for_me)) return false;
  if (packet.sequence != sequence) return false;
  taken_ = sequence;
  if (packet.count > 0) spoken_ = sequence;
  ++core_.counters.packets_taken;
  const std::uint64_t life = life_;
  MessageReader reader(packet);
  while (auto message = reader.next()) {
    ++core_.counters.messages_taken;
    handler.on_message(*message);
    if (life != life_ || !open_) return true;
  }
  core_.counters.unknown_messages += reader.unknown();
  if (reader.malformed()) handler.on_protocol_fault();
  // After the messages: a reset in the packet must not find its socket gone because the ack had settled it.
  handler.on_ack_in_packet(packet.ack);
  return true;
}

}  // namespace stp
