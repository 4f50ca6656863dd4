// A connected STP socket with bounded waits, and the listener that gives them.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "tests/kill/player.h"

namespace turns {

// How a call ended that did not do all it should.
struct Ending {
  int error = 0;   // errno; 0 is the end of the stream
  int reason = 0;  // STPerror()
  std::string words() const;  // "end", or the name of the errno, a colon, and the reason
};

class Conversation {
 public:
  Conversation(Player& player, int socket, std::string peer) : player_(&player), socket_(socket), peer_(std::move(peer)) {}
  Conversation(Conversation&& other) noexcept;
  Conversation& operator=(Conversation&& other) noexcept;
  ~Conversation();  // resets

  static std::optional<Conversation> connect(Player& player, const std::string& host);

  // All of it, or false and ending().
  bool send(std::span<const unsigned char> bytes);
  bool receive(std::span<unsigned char> into);
  // What has come, at least one byte; 0 and ending().
  std::size_t receive_some(std::span<unsigned char> into);
  bool shut();   // my direction
  bool close();  // true: everything has arrived in the peer's host
  void abort();
  const Ending& ending() const { return ending_; }
  // The name under which the peer's host has joined.
  const std::string& peer() const { return peer_; }

  template <class T>
  bool send_value(const T& value) {
    return send({reinterpret_cast<const unsigned char*>(&value), sizeof value});
  }
  template <class T>
  bool receive_value(T& value) {
    return receive({reinterpret_cast<unsigned char*>(&value), sizeof value});
  }

 private:
  bool failed(const char* call);

  Player* player_;
  int socket_;
  std::string peer_;
  Ending ending_;
};

class Listener {
 public:
  explicit Listener(Player& player) : player_(player) {}
  ~Listener();
  // Waits for the next, for a second or so.
  std::optional<Conversation> accept();

 private:
  bool listens();

  Player& player_;
  int socket_ = -1;
};

// The name under which this host has joined; waits until it has.
std::string joined_name(Player& player);

}  // namespace turns
