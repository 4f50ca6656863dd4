// Streams of known bytes between hosts, small and large ones: something is always under way when somebody dies. Who receives checks each byte
// as it comes, and that an end comes where the sender ended, and nowhere else.
#pragma once

#include <stop_token>

#include "tests/kill/conversation.h"
#include "tests/kill/messages.h"

namespace turns {

// What one stream is to be.
Greeting next_stream(Player& player, std::uint64_t number);
// The most that a stream of this kind really sends: all of it, or less before a reset.
std::uint64_t to_be_sent(Player& player, const Greeting& greeting);

// Checks the bytes of a stream as they come, from a conversation or from a file.
class StreamCheck {
 public:
  StreamCheck(Player& player, const Greeting& greeting, const std::string& peer);
  void take(std::span<const unsigned char> bytes);
  // Notes how it ended; an end that is none ends the process.
  void over(const Ending& ending);
  std::uint64_t got() const { return got_; }

 private:
  Player& player_;
  Greeting greeting_;
  std::uint64_t got_ = 0;
};

// One stream after the other to these hosts, in any order, until told to stop.
void send_streams(Player& player, std::uint64_t first_number, const std::vector<std::string>& to, const std::stop_token& stop);
void receive_stream(Player& player, Conversation& conversation, const Greeting& greeting);

}  // namespace turns
