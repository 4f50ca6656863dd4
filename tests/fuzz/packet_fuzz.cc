// The packet and every message in it. Messages that are read are written into a packet again, and read as the same.
#include "stp/packet.h"

#include <vector>

#include "tests/fuzz/sealing.h"
#include "tests/unit/golden.h"

namespace stp::fuzz {
namespace {

using golden::Block;

// All messages of a block, as another block; nothing in `block` when there are none.
Block rebuilt(ConstBytes block, const OpenedPacket& packet, bool* whole) {
  Block again(block.size());
  PacketBuilder builder(again);
  MessageReader reader(packet);
  std::size_t count = 0;
  while (auto message = reader.next()) {
    require(!(message->session.counter >> 63), "a session's number has 63 bits");
    if (const auto* data = std::get_if<DataMessage>(&message->body); data != nullptr && !data->bytes.empty())
      require(data->bytes.data() >= block.data() && data->bytes.data() + data->bytes.size() <= block.data() + block.size(), "data lies in its packet");
    // The reader's view turned into the writer's.
    require(builder.append({.counter = message->session.counter, .initiator = !message->session.initiator}, message->body), "what fitted into a packet fits again");
    require(++count <= block.size() / kMessageHeader, "messages take room");
  }
  *whole = !reader.malformed();
  builder.seal(packet.writer, packet.addressee, packet.sequence, packet.ack, golden::uuid(), golden::geometry());
  return again;
}

}  // namespace

void run(ConstBytes bytes) {
  Input input(bytes);
  const std::uint8_t how = input.u8();
  const std::uint64_t sequence = input.near(golden::kPacketSequence);
  const Slot sender = golden::kAlpha.slot, receiver = golden::kBeta.slot;
  const Geometry g = golden::geometry();
  const std::uint64_t place = g.packet(sender, receiver, sequence);
  Block block(kMinBlockSize);
  if ((how & 1) != 0) {
    block = golden::packet();
    input.patch(block);
  } else {
    BlockHeader header{.magic = kPacketMagic, .uuid = golden::uuid(), .place = place, .writer = golden::kAlpha, .addressee = golden::kBeta, .sequence = sequence};
    store_le<std::uint32_t>(block.data() + kBlockHeaderSize + 8, input.u32());  // number of messages
    const ConstBytes messages = input.take(block.size() - kBlockHeaderSize - kPacketPrefix);
    std::ranges::copy(messages, block.begin() + kBlockHeaderSize + kPacketPrefix);
    header.body_length = static_cast<std::uint32_t>(kPacketPrefix + messages.size());
    seal_block(block, header);
  }
  if ((how & 6) == 2) seal_again(block);
  if ((how & 4) != 0) seal_again(block, kPacketMagic, golden::uuid(), place, sender);
  const OpenedPacket packet = open_packet(block, golden::uuid(), g, sender, receiver, sequence);
  if (packet.fault != BlockFault::kNone) return;
  bool whole = false, still_whole = false;
  const Block once = rebuilt(block, packet, &whole);
  // Of a packet with a sequence of its own, whose place is another one, nothing more is asked here.
  if (packet.sequence == 0 || g.packet(sender, receiver, packet.sequence) != place || packet.writer.slot != sender) return;
  const OpenedPacket reopened = open_packet(once, golden::uuid(), g, sender, receiver, sequence);
  require(reopened.fault == BlockFault::kNone && reopened.sequence == packet.sequence && reopened.ack == packet.ack, "a packet is read as it was written");
  const Block twice = rebuilt(once, reopened, &still_whole);
  require(still_whole && once == twice, "messages are read as they were written");
}

}  // namespace stp::fuzz
