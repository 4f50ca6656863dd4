#include "stp/packet.h"

namespace stp {
namespace {

enum MessageType : std::uint16_t { kOpen = 1, kOpenAck, kRefuse, kData, kExtent, kCredit, kConsumed, kNack, kFin, kRst, kUnread };
constexpr std::uint64_t kInitiatorBit = std::uint64_t{1} << 63;
constexpr std::size_t kExtentPayload = 72;
constexpr std::uint32_t kHeardAll = 1;  // flags of RST

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

MessageType type_of(const MessageBody& body) { return static_cast<MessageType>(body.index() + 1); }

std::size_t payload_size(const MessageBody& body) {
  return std::visit(Overloaded{[](const OpenMessage&) -> std::size_t { return 24; },
                               [](const OpenAckMessage&) -> std::size_t { return 16; },
                               [](const DataMessage& m) -> std::size_t { return 8 + m.bytes.size(); },
                               [](const ExtentMessage&) -> std::size_t { return kExtentPayload; },
                               [](const NackMessage&) -> std::size_t { return 16; },
                               [](const UnreadMessage&) -> std::size_t { return 0; },
                               [](const auto&) -> std::size_t { return 8; }},
                    body);
}

void write_payload(Writer& w, const MessageBody& body) {
  std::visit(Overloaded{[&](const OpenMessage& m) {
                          w.u16(m.destination_port);
                          w.u16(m.source_port);
                          w.u32(m.scb);
                          w.u32(m.tell_accepted ? 1 : 0);
                          w.u32(0);
                          w.u64(m.limit);
                        },
                        [&](const OpenAckMessage& m) {
                          w.u32(m.accepted ? 2 : 1);
                          w.u32(m.scb);
                          w.u64(m.limit);
                        },
                        [&](const RefuseMessage& m) {
                          w.u32(static_cast<std::uint32_t>(m.reason));
                          w.u32(0);
                        },
                        [&](const DataMessage& m) {
                          w.u64(m.offset);
                          w.raw(m.bytes);
                        },
                        [&](const ExtentMessage& m) {
                          w.u64(m.offset);
                          w.u64(m.place);
                          w.u32(m.length);
                          w.u32(m.attempt);
                          w.u64(m.hash);
                          w.zeros(4 + 4 + 12 + 16 + 4);
                        },
                        [&](const CreditMessage& m) { w.u64(m.limit); },
                        [&](const ConsumedMessage& m) { w.u64(m.offset); },
                        [&](const NackMessage& m) {
                          w.u64(m.offset);
                          w.u32(m.length);
                          w.u32(m.attempt);
                        },
                        [&](const FinMessage& m) { w.u64(m.total); },
                        [&](const ResetMessage& m) {
                          w.u32(static_cast<std::uint32_t>(m.reason));
                          w.u32(m.heard_all ? kHeardAll : 0);
                        },
                        [](const UnreadMessage&) {}},
             body);
}

std::optional<MessageBody> read_payload(std::uint16_t type, ConstBytes payload) {
  Reader r(payload);
  MessageBody body;
  switch (type) {
    case kOpen: {
      OpenMessage m;
      m.destination_port = r.u16();
      m.source_port = r.u16();
      m.scb = r.u32();
      m.tell_accepted = (r.u32() & 1) != 0;
      r.u32();
      m.limit = r.u64();
      body = m;
      break;
    }
    case kOpenAck: {
      OpenAckMessage m;
      m.accepted = r.u32() == 2;
      m.scb = r.u32();
      m.limit = r.u64();
      body = m;
      break;
    }
    case kRefuse: body = RefuseMessage{static_cast<Reason>(r.u32())}; break;
    case kData: {
      DataMessage m;
      m.offset = r.u64();
      m.bytes = r.raw(r.left());
      body = m;
      break;
    }
    case kExtent: {
      ExtentMessage m;
      m.offset = r.u64();
      m.place = r.u64();
      m.length = r.u32();
      m.attempt = r.u32();
      m.hash = r.u64();
      if (r.u32() != 0) return std::nullopt;  // a key id: encrypted
      body = m;
      break;
    }
    case kCredit: body = CreditMessage{r.u64()}; break;
    case kConsumed: body = ConsumedMessage{r.u64()}; break;
    case kNack: {
      NackMessage m;
      m.offset = r.u64();
      m.length = r.u32();
      m.attempt = r.u32();
      body = m;
      break;
    }
    case kFin: body = FinMessage{r.u64()}; break;
    case kUnread: body = UnreadMessage{}; break;
    default: {
      ResetMessage m;
      m.reason = static_cast<Reason>(r.u32());
      m.heard_all = (r.u32() & kHeardAll) != 0;
      body = m;
      break;
    }
  }
  if (r.bad()) return std::nullopt;
  return body;
}

}  // namespace

PacketBuilder::PacketBuilder(Bytes block) : block_(block.subspan(kBlockHeaderSize)) {}

bool PacketBuilder::append(SessionId session, const MessageBody& body) {
  const std::size_t payload = payload_size(body);
  if (block_.size() - used_ < kMessageHeader + payload) return false;
  Writer w(block_.subspan(used_));
  w.u16(type_of(body));
  w.u16(0);
  w.u32(static_cast<std::uint32_t>(payload));
  w.u64(session.counter | (session.initiator ? kInitiatorBit : 0));
  write_payload(w, body);
  used_ += w.size();
  ++count_;
  return true;
}

std::size_t PacketBuilder::data_room() const {
  const std::size_t overhead = kMessageHeader + 8;
  const std::size_t left = block_.size() - used_;
  return left > overhead ? left - overhead : 0;
}

void PacketBuilder::seal(const Identity& writer, const Identity& addressee, std::uint64_t sequence, std::uint64_t ack, const Uuid& uuid,
                         const Geometry& g) {
  Writer w(block_.first(kPacketPrefix));
  w.u64(ack);
  w.u32(count_);
  w.u32(0);
  BlockHeader h;
  h.magic = kPacketMagic;
  h.uuid = uuid;
  h.place = g.packet(writer.slot, addressee.slot, sequence);
  h.writer = writer;
  h.addressee = addressee;
  h.sequence = sequence;
  h.body_length = static_cast<std::uint32_t>(used_);
  seal_block(Bytes(block_.data() - kBlockHeaderSize, block_.size() + kBlockHeaderSize), h);
}

OpenedPacket open_packet(ConstBytes block, const Uuid& uuid, const Geometry& g, Slot sender, Slot receiver, std::uint64_t sequence) {
  OpenedPacket out;
  const OpenedBlock opened = open_block(block, kPacketMagic, uuid, g.packet(sender, receiver, sequence), sender);
  out.fault = opened.fault;
  if (out.fault != BlockFault::kNone) return out;
  Reader r(opened.body);
  out.writer = opened.header.writer;
  out.addressee = opened.header.addressee;
  out.sequence = opened.header.sequence;
  out.ack = r.u64();
  out.count = r.u32();
  r.u32();
  if (r.bad() || out.addressee.slot != receiver) {
    out.fault = BlockFault::kBody;
    return out;
  }
  out.messages = r.raw(r.left());
  return out;
}

std::optional<Message> MessageReader::next() {
  while (left_ > 0) {
    Reader r(rest_);
    const std::uint16_t type = r.u16();
    r.u16();
    const std::uint32_t length = r.u32();
    const std::uint64_t session = r.u64();
    const ConstBytes payload = r.raw(length);
    if (r.bad()) {
      malformed_ = true;
      left_ = 0;
      return std::nullopt;
    }
    rest_ = rest_.subspan(r.at());
    --left_;
    if (type < kOpen || type > kUnread) {
      ++unknown_;
      continue;
    }
    auto body = read_payload(type, payload);
    if (!body) {
      malformed_ = true;
      left_ = 0;
      return std::nullopt;
    }
    // The writer's view turned into the reader's.
    return Message{{.counter = session & ~kInitiatorBit, .initiator = (session & kInitiatorBit) == 0}, *body};
  }
  return std::nullopt;
}

}  // namespace stp
