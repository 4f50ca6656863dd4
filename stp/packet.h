// The packet: one block of a ring, filled once with the messages of many sessions.
//
// Magic "STPPACKT"; writer = sender, addressee = receiver, both identities exact; sequence = place in
// the stream of packets of this pair of incarnations, from 1; it lives at ring[(sequence - 1) % ring_blocks].
// The bytes of a sequence number never change once submitted.
//   body offset size  field
//        0    8  ack: as in the gate, when the packet was filled (a shortcut; the gate is what counts)
//        8    4  number of messages   12 4 reserved
//       16       messages, one behind the other
//
// A message: type u16, flags u16, length of its payload u32, session u64, payload. Unknown types are
// skipped. Session: a counter of the initiator that is never used again within its incarnation; bit 63 is set when
// the writer of the packet is the initiator.
//
//   type          payload
//    1 OPEN       destination port u16, source port u16, SCB u32 (display), flags u32 (1: tell me when accepted), reserved u32,
//                 limit u64 (how far the acceptor may send)
//    2 OPEN_ACK   stage u32 (1 queued, 2 accepted), SCB u32, limit u64
//    3 REFUSE     reason u32, reserved u32
//    4 DATA       offset u64, bytes
//    5 EXTENT     offset u64, place u64 (block), length u32, attempt u32, hash u64 (XXH3-64 of the bytes, seeded with the
//                 offset), key id u32, reserved u32, encryption nonce 12, tag 16, reserved 4
//    6 CREDIT     limit u64: offsets below it may be sent
//    7 CONSUMED   offset u64: everything below it is in my memory, verified
//    8 NACK       offset u64, length u32, attempt u32: this extent never verified, write it elsewhere
//    9 FIN        total u64: the stream ends at this offset
//   10 RST        reason u32, flags u32 (1: my program had taken all, to the end)
//   11 UNREAD     nothing: my program has closed, and of what you sent something is dropped; RST follows when I have said all that I have to say
#pragma once

#include <optional>
#include <variant>

#include "stp/block.h"
#include "stp/geometry.h"
#include "stp/reason.h"

namespace stp {

inline constexpr std::uint64_t kPacketMagic = magic("STPPACKT");
inline constexpr std::size_t kPacketPrefix = 16;
inline constexpr std::size_t kMessageHeader = 16;

// A session as one side sees it: (counter, did I initiate it).
struct SessionId {
  std::uint64_t counter = 0;
  bool initiator = false;  // of the side that holds this value
  auto operator<=>(const SessionId&) const = default;
};

struct OpenMessage {
  std::uint16_t destination_port = 0, source_port = 0;
  std::uint32_t scb = 0;
  bool tell_accepted = false;
  std::uint64_t limit = 0;
};
struct OpenAckMessage {
  bool accepted = false;
  std::uint32_t scb = 0;
  std::uint64_t limit = 0;
};
struct RefuseMessage {
  Reason reason{};
};
struct DataMessage {
  std::uint64_t offset = 0;
  ConstBytes bytes;
};
struct ExtentMessage {
  std::uint64_t offset = 0, place = 0;
  std::uint32_t length = 0, attempt = 0;
  std::uint64_t hash = 0;
};
struct CreditMessage {
  std::uint64_t limit = 0;
};
struct ConsumedMessage {
  std::uint64_t offset = 0;
};
struct NackMessage {
  std::uint64_t offset = 0;
  std::uint32_t length = 0, attempt = 0;
};
struct FinMessage {
  std::uint64_t total = 0;
};
struct ResetMessage {
  Reason reason{};
  bool heard_all = false;  // the program had taken all of the stream, to its end, and nothing was dropped
};
struct UnreadMessage {};
using MessageBody = std::variant<OpenMessage, OpenAckMessage, RefuseMessage, DataMessage, ExtentMessage, CreditMessage, ConsumedMessage,
                                 NackMessage, FinMessage, ResetMessage, UnreadMessage>;

// `session` is from the view of the packet's reader: initiator means the reader initiated it.
struct Message {
  SessionId session;
  MessageBody body;
};

// Fills one packet. Not sealed until seal(); until then nothing of it is on its way.
class PacketBuilder {
 public:
  explicit PacketBuilder(Bytes block);
  // False (and nothing appended) when the message does not fit. `session` is from the view of the writer.
  bool append(SessionId session, const MessageBody& body);
  // Bytes of DATA that would still fit in one more message; 0 when none would.
  std::size_t data_room() const;
  // Worth writing for its acknowledgement alone.
  void keep() { kept_ = true; }
  bool empty() const { return count_ == 0 && !kept_; }
  void seal(const Identity& writer, const Identity& addressee, std::uint64_t sequence, std::uint64_t ack, const Uuid& uuid,
            const Geometry& geometry);

 private:
  Bytes block_;
  std::size_t used_ = kPacketPrefix;
  std::uint32_t count_ = 0;
  bool kept_ = false;
};

struct OpenedPacket {
  BlockFault fault = BlockFault::kNone;
  Identity writer, addressee;
  std::uint64_t sequence = 0;
  std::uint64_t ack = 0;
  ConstBytes messages;  // into the block
  std::uint32_t count = 0;
};
// Checks the header against the place that `sequence` has in the ring sender -> receiver, not the sequence itself.
OpenedPacket open_packet(ConstBytes block, const Uuid& uuid, const Geometry& geometry, Slot sender, Slot receiver, std::uint64_t sequence);

// Walks the messages of a checked packet. next() gives nothing at the end; malformed() tells a true end
// from one that a message with impossible lengths made. Unknown types are passed over and counted.
class MessageReader {
 public:
  explicit MessageReader(const OpenedPacket& packet) : rest_(packet.messages), left_(packet.count) {}
  std::optional<Message> next();
  bool malformed() const { return malformed_; }
  std::uint32_t unknown() const { return unknown_; }

 private:
  ConstBytes rest_;
  std::uint32_t left_;
  std::uint32_t unknown_ = 0;
  bool malformed_ = false;
};

}  // namespace stp
