#include "tests/kill/streams.h"

#include <algorithm>

#include "tests/kill/stream_bytes.h"

namespace turns {
namespace {

constexpr std::uint64_t kSmall = 64 * 1024;
constexpr std::uint64_t kLarge = 6 * 1024 * 1024;
constexpr std::size_t kPiece = 256 * 1024;

bool send_bytes(Player& player, Conversation& conversation, const Greeting& greeting, std::uint64_t size, std::uint64_t& sent) {
  std::vector<unsigned char> piece;
  while (sent < size) {
    piece.resize(std::min<std::uint64_t>(size - sent, 1 + player.random() % kPiece));
    make_bytes(greeting.seed, sent, piece);
    if (!conversation.send(piece)) return false;
    sent += piece.size();
  }
  return true;
}

// Empty: everything has arrived.
std::string send_stream(Player& player, Conversation& conversation, const Greeting& greeting, std::uint64_t size, std::uint64_t& sent) {
  if (!conversation.send_value(greeting) || !send_bytes(player, conversation, greeting, size, sent)) return conversation.ending().words();
  switch (static_cast<StreamEnding>(greeting.ending)) {
    case StreamEnding::kAbort:
      conversation.abort();
      return "aborted";
    case StreamEnding::kConfirmed: {
      std::uint64_t confirmed = 0;
      if (!conversation.shut() || !conversation.receive_value(confirmed)) return conversation.ending().words();
      if (confirmed != greeting.number) player.bad("stream {}: confirmed is {}", greeting.number, confirmed);
      break;
    }
    case StreamEnding::kClose:
      break;
  }
  return conversation.close() ? "" : conversation.ending().words();
}

}  // namespace

Greeting next_stream(Player& player, std::uint64_t number) {
  Greeting out{.kind = Kind::kStream, .life = player.who().life, .number = number, .seed = player.random()};
  player.who().host.copy(out.host.data(), out.host.size() - 1);
  out.length = 1 + player.random() % (player.random() % 2 == 0 ? kSmall : kLarge);
  const std::uint64_t dice = player.random() % 8;
  out.ending = static_cast<std::uint64_t>(dice == 0 ? StreamEnding::kAbort : dice < 4 ? StreamEnding::kConfirmed : StreamEnding::kClose);
  return out;
}

std::uint64_t to_be_sent(Player& player, const Greeting& greeting) {
  return static_cast<StreamEnding>(greeting.ending) == StreamEnding::kAbort ? player.random() % greeting.length : greeting.length;
}

StreamCheck::StreamCheck(Player& player, const Greeting& greeting, const std::string& peer) : player_(player), greeting_(greeting) {
  if (!greeting.good() || greeting.kind != Kind::kStream || greeting.length > kLarge) player_.bad("nonsense instead of a stream, from {}", peer);
  player_.note("hear", "{} {} {} {} {}", greeting_.from(), greeting_.life, greeting_.number, greeting_.length, peer);
}

void StreamCheck::take(std::span<const unsigned char> bytes) {
  if (got_ + bytes.size() > greeting_.length)
    player_.bad("stream {} of {} {}: {} bytes of {}", greeting_.number, greeting_.from(), greeting_.life, got_ + bytes.size(), greeting_.length);
  if (const std::size_t wrong = first_wrong(greeting_.seed, got_, bytes); wrong != bytes.size())
    player_.bad("stream {} of {} {}: wrong at {} of {}", greeting_.number, greeting_.from(), greeting_.life, got_ + wrong, greeting_.length);
  got_ += bytes.size();
}

void StreamCheck::over(const Ending& ending) {
  const bool cut = ending.error == 0 && got_ != greeting_.length;
  if (cut && greeting_.by_files == 0)
    player_.bad("stream {} of {} {}: an end after {} bytes of {}", greeting_.number, greeting_.from(), greeting_.life, got_, greeting_.length);
  player_.note("recv", "{} {} {} {} {} {}", greeting_.from(), greeting_.life, greeting_.number, cut ? "cut" : ending.words(), got_, greeting_.length);
}

void send_streams(Player& player, std::uint64_t first_number, const std::vector<std::string>& to, const std::stop_token& stop) {
  for (std::uint64_t number = first_number; !stop.stop_requested(); ++number) {
    const std::string& host = to[player.random() % to.size()];
    auto conversation = Conversation::connect(player, host);
    if (!conversation) {
      player.pause_ms(5);
      continue;
    }
    const Greeting greeting = next_stream(player, number);
    const std::uint64_t size = to_be_sent(player, greeting);
    std::uint64_t sent = 0;
    player.note("begin", "{} {} {} {}", number, host, greeting.length, greeting.ending);
    const std::string failure = send_stream(player, *conversation, greeting, size, sent);
    player.note("sent", "{} {} {} {}", number, host, failure.empty() ? "ok" : failure, sent);
  }
}

void receive_stream(Player& player, Conversation& conversation, const Greeting& greeting) {
  StreamCheck check(player, greeting, conversation.peer());
  std::vector<unsigned char> piece(kPiece);
  for (;;) {
    const std::size_t got = conversation.receive_some(std::span(piece).first(1 + player.random() % kPiece));
    if (got == 0) break;
    check.take(std::span(piece).first(got));
  }
  check.over(conversation.ending());
  if (conversation.ending().error == 0 && static_cast<StreamEnding>(greeting.ending) == StreamEnding::kConfirmed) conversation.send_value(greeting.number);
  if (conversation.ending().error == 0) (void)conversation.close();
}

}  // namespace turns
