// A counter that goes round: who has it adds one and passes it on, and nobody else may. It is passed until the neighbour confirms that it was
// taken, which both keep in the journal, so that a life that ends leaves to the next one what it had. One kind is a number alone, the other
// brings the log of the last turns along, to which everybody appends, and ballast.
//
// Passing again after a failure is the players' doing, and carries the number of the attempt: the transport must not deliver one attempt twice.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "tests/kill/conversation.h"
#include "tests/kill/messages.h"

namespace turns {

class Token {
 public:
  // `with_log`: of the second kind. Reads from the journal what earlier lives have left.
  Token(Player& player, std::uint64_t number, bool with_log);

  // Passes on what it has, until told to stop.
  void pass_on(const std::stop_token& stop);
  // Takes a pass that came, and what follows it; false when the conversation is over.
  bool take(Conversation& conversation, const Pass& pass, const Greeting& from);

 private:
  void recover();
  bool give(Conversation& conversation, std::uint64_t& in_row);
  bool check_log(const std::vector<Entry>& log, const Pass& pass);
  void save_log() const;
  void load_log();
  std::string log_path() const;

  Player& player_;
  std::uint64_t number_;
  bool with_log_;
  std::mutex mutex_;
  std::condition_variable_any has_it_;
  bool mine_ = false;          // as far as was confirmed
  std::uint64_t value_ = 0;    // the last that I took
  bool took_any_ = false;
  std::uint64_t attempt_ = 0;  // the last of passing it
  std::vector<Entry> log_;     // up to value_
};

}  // namespace turns
