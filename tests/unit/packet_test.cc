#include "stp/packet.h"

#include "tests/unit/golden.h"

namespace stp {
namespace {

const Geometry g = golden::geometry();

OpenedPacket open(ConstBytes block) { return open_packet(block, golden::uuid(), g, 1, 2, golden::kPacketSequence); }

// Decodes and walks all messages, as a receiver would.
BlockFault decode(ConstBytes block) {
  const OpenedPacket packet = open(block);
  if (packet.fault != BlockFault::kNone) return packet.fault;
  MessageReader reader(packet);
  while (reader.next()) {
  }
  return reader.malformed() ? BlockFault::kBody : BlockFault::kNone;
}

golden::Block sealed(PacketBuilder& builder, golden::Block& block) {
  builder.seal(golden::kAlpha, golden::kBeta, golden::kPacketSequence, 0, golden::uuid(), g);
  return block;
}

template <class M>
M round_trip(const M& message) {
  golden::Block block(4096);
  PacketBuilder builder(block);
  EXPECT_TRUE(builder.append({5, true}, message));
  sealed(builder, block);
  const OpenedPacket packet = open(block);
  EXPECT_EQ(packet.fault, BlockFault::kNone);
  MessageReader reader(packet);
  const auto got = reader.next();
  EXPECT_TRUE(got.has_value());
  EXPECT_FALSE(reader.next().has_value());
  EXPECT_FALSE(reader.malformed());
  return std::get<M>(got->body);
}

TEST(PacketCodec, MatchesTheGoldenBytes) {
  EXPECT_TRUE(golden::same_bytes(golden::packet(), golden::bytes(golden::kPacket)));
  const golden::Block block = golden::bytes(golden::kPacket);
  const OpenedPacket packet = open(block);
  ASSERT_EQ(packet.fault, BlockFault::kNone);
  EXPECT_EQ(packet.writer, golden::kAlpha);
  EXPECT_EQ(packet.addressee, golden::kBeta);
  EXPECT_EQ(packet.sequence, 18u);
  EXPECT_EQ(packet.ack, 77u);
  MessageReader reader(packet);
  const auto first = reader.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->session, (SessionId{1, false})) << "the writer initiated it, so the reader did not";
  EXPECT_EQ(std::get<OpenMessage>(first->body).destination_port, 80);
  EXPECT_EQ(std::get<OpenMessage>(first->body).limit, 65536u);
  const auto second = reader.next();
  ASSERT_TRUE(second);
  const ConstBytes bytes = std::get<DataMessage>(second->body).bytes;
  EXPECT_TRUE(golden::same_bytes(bytes, std::as_bytes(std::span(golden::kGreeting))));
  EXPECT_FALSE(reader.next());
  EXPECT_FALSE(reader.malformed());
}

TEST(PacketCodec, RefusesEveryFlippedBitAndEveryTear) {
  golden::expect_every_flip_refused(golden::packet(), 219, decode);
  golden::expect_every_tear_refused(golden::packet(), 219, decode);
}

TEST(PacketCodec, RefusesThePacketOfAnotherPlacePairOrStorage) {
  const golden::Block block = golden::packet();
  EXPECT_EQ(open_packet(block, golden::uuid(), g, 1, 2, 19).fault, BlockFault::kPlace);
  EXPECT_EQ(open_packet(block, golden::uuid(), g, 1, 3, 18).fault, BlockFault::kPlace);
  EXPECT_EQ(open_packet(block, golden::uuid(), g, 2, 1, 18).fault, BlockFault::kPlace);
  EXPECT_EQ(open_packet(block, golden::other_uuid(), g, 1, 2, 18).fault, BlockFault::kUuid);
}

TEST(PacketCodec, LeavesTheLapToItsCaller) {
  // 2 and 34 live in the place of 18: the block is whole, its sequence tells which lap it is of.
  EXPECT_EQ(open_packet(golden::packet(), golden::uuid(), g, 1, 2, 34).sequence, 18u);
}

TEST(PacketCodec, CarriesEveryMessage) {
  const auto open_message =
      round_trip(OpenMessage{.destination_port = 1, .source_port = 65535, .scb = 3, .tell_accepted = true, .limit = 1ull << 60});
  EXPECT_EQ(open_message.source_port, 65535);
  EXPECT_EQ(open_message.scb, 3u);
  EXPECT_TRUE(open_message.tell_accepted);
  EXPECT_EQ(open_message.limit, 1ull << 60);
  const auto ack = round_trip(OpenAckMessage{.accepted = true, .scb = 9, .limit = 10});
  EXPECT_TRUE(ack.accepted);
  EXPECT_EQ(ack.scb, 9u);
  EXPECT_EQ(ack.limit, 10u);
  EXPECT_EQ(round_trip(RefuseMessage{Reason::kBacklogFull}).reason, Reason::kBacklogFull);
  const auto extent = round_trip(ExtentMessage{.offset = 1, .place = 2, .length = 3, .attempt = 4, .hash = 5});
  EXPECT_EQ(extent.offset, 1u);
  EXPECT_EQ(extent.place, 2u);
  EXPECT_EQ(extent.length, 3u);
  EXPECT_EQ(extent.attempt, 4u);
  EXPECT_EQ(extent.hash, 5u);
  EXPECT_EQ(round_trip(CreditMessage{77}).limit, 77u);
  EXPECT_EQ(round_trip(ConsumedMessage{78}).offset, 78u);
  const auto nack = round_trip(NackMessage{.offset = 6, .length = 7, .attempt = 8});
  EXPECT_EQ(nack.offset, 6u);
  EXPECT_EQ(nack.length, 7u);
  EXPECT_EQ(nack.attempt, 8u);
  EXPECT_EQ(round_trip(FinMessage{1234}).total, 1234u);
  (void)round_trip(UnreadMessage{});
  EXPECT_EQ(round_trip(ResetMessage{Reason::kAborted}).reason, Reason::kAborted);
  for (const bool heard_all : {false, true}) EXPECT_EQ(round_trip(ResetMessage{Reason::kAborted, heard_all}).heard_all, heard_all);
}

TEST(PacketCodec, TakesExactlyAsMuchDataAsItSays) {
  golden::Block block(4096);
  PacketBuilder builder(block);
  const golden::Block data(8192, std::byte{0x5a});
  ASSERT_TRUE(builder.append({1, true}, CreditMessage{1}));
  const std::size_t room = builder.data_room();
  EXPECT_FALSE(builder.append({1, true}, DataMessage{.offset = 0, .bytes = ConstBytes(data).first(room + 1)}));
  EXPECT_TRUE(builder.append({1, true}, DataMessage{.offset = 0, .bytes = ConstBytes(data).first(room)}));
  EXPECT_EQ(builder.data_room(), 0u);
  EXPECT_FALSE(builder.append({1, true}, CreditMessage{2}));
  sealed(builder, block);
  EXPECT_EQ(decode(block), BlockFault::kNone);
}

TEST(PacketCodec, ASessionOfTheReaderComesBackAsItsOwn) {
  golden::Block block(4096);
  PacketBuilder builder(block);
  builder.append({9, false}, CreditMessage{1});
  sealed(builder, block);
  const OpenedPacket packet = open(block);
  MessageReader reader(packet);
  EXPECT_EQ(reader.next()->session, (SessionId{9, true}));
}

// A packet with a hand-made message area and a good checksum.
golden::Block hand_made(std::uint32_t count, const std::function<void(Writer&)>& fill) {
  golden::Block block(4096);
  Writer w(Bytes(block).subspan(kBlockHeaderSize));
  w.u64(0);
  w.u32(count);
  w.u32(0);
  fill(w);
  BlockHeader h = open_any_block(golden::packet(), kPacketMagic).header;
  h.body_length = static_cast<std::uint32_t>(w.size());
  seal_block(block, h);
  return block;
}

void put_message(Writer& w, std::uint16_t type, std::uint32_t length, std::size_t payload) {
  w.u16(type);
  w.u16(0);
  w.u32(length);
  w.u64(1);
  w.zeros(payload);
}

TEST(PacketCodec, PassesOverUnknownMessages) {
  const golden::Block block = hand_made(3, [](Writer& w) {
    put_message(w, 999, 40, 40);
    put_message(w, 0, 0, 0);
    put_message(w, 6, 8, 8);
  });
  const OpenedPacket packet = open(block);
  MessageReader reader(packet);
  const auto message = reader.next();
  ASSERT_TRUE(message);
  EXPECT_TRUE(std::holds_alternative<CreditMessage>(message->body));
  EXPECT_EQ(reader.unknown(), 2u);
  EXPECT_FALSE(reader.malformed());
}

TEST(PacketCodec, NamesMessagesWithImpossibleLengths) {
  EXPECT_EQ(decode(hand_made(1, [](Writer& w) { put_message(w, 6, 8, 8); })), BlockFault::kNone);
  EXPECT_EQ(decode(hand_made(1, [](Writer& w) { put_message(w, 6, 9, 8); })), BlockFault::kBody) << "beyond the end";
  EXPECT_EQ(decode(hand_made(1, [](Writer& w) { put_message(w, 4, 0xffffffff, 100); })), BlockFault::kBody);
  EXPECT_EQ(decode(hand_made(2, [](Writer& w) { put_message(w, 6, 8, 8); })), BlockFault::kBody) << "fewer messages than promised";
  EXPECT_EQ(decode(hand_made(0xffffffff, [](Writer& w) { put_message(w, 6, 8, 8); })), BlockFault::kBody);
  for (std::uint16_t type = 1; type <= 10; ++type)
    EXPECT_EQ(decode(hand_made(1, [type](Writer& w) { put_message(w, type, 1, 1); })), BlockFault::kBody) << "type " << type << " cut short";
}

TEST(PacketCodec, RefusesABodyShorterThanItsPrefix) {
  golden::Block block = golden::packet();
  BlockHeader h = open_any_block(block, kPacketMagic).header;
  h.body_length = 15;
  seal_block(block, h);
  EXPECT_EQ(decode(block), BlockFault::kBody);
}

TEST(PacketCodec, SurvivesGarbage) { golden::feed_garbage(open_any_block(golden::packet(), kPacketMagic).header, decode); }

}  // namespace
}  // namespace stp
