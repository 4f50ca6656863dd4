// One process of a run: a life of a host of the ring, or of a program that uses the mount. Who it is, where it notes what happens, and the
// watch over its calls, none of which may take longer than the patience of the run.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/kill/journal.h"

namespace turns {

class Player {
 public:
  struct Who {
    std::string host;           // its name, without ~2
    std::uint64_t life = 0;     // counted by whoever starts it; never the same again for one host
    std::vector<std::string> ring;  // all hosts, in the order of their turns
    std::uint16_t port = 700;
    int patience_ms = 30'000;   // the longest that a call may take, while this process runs
    std::string state;          // directory for what a host keeps
  };

  Player(Who who, const std::string& journal);

  const Who& who() const { return who_; }
  Journal& journal() { return journal_; }
  std::size_t place() const { return place_; }  // in the ring
  const std::string& neighbour() const { return who_.ring[(place_ + 1) % who_.ring.size()]; }

  // "EVENT HOST LIFE WORDS"
  template <class... Args>
  void note(std::string_view event, fmt::format_string<Args...> words, Args&&... args) {
    journal_.note(fmt::format("{} {} {} {}", event, who_.host, who_.life, fmt::format(words, std::forward<Args>(args)...)));
  }
  // What must never be. The process ends, for what it would do from here on proves nothing.
  template <class... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> words, Args&&... args) {
    note("BAD", "{}", fmt::format(words, std::forward<Args>(args)...));
    std::_Exit(3);
  }

  // While one lives, its call is watched.
  class Watched {
   public:
    Watched(Player& player, const char* call, std::string with);
    ~Watched();
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

   private:
    friend class Player;
    Player& player_;
    const char* call_;
    std::string with_;
    int ticks_ = 0;
    std::list<Watched*>::iterator place_;
  };

  // A failed call, noted once in a row.
  void note_failure(const char* call, const std::string& with, int error, int reason);
  std::uint64_t random();
  void pause_ms(int ms);

 private:
  void watch();

  Who who_;
  Journal journal_;
  std::size_t place_ = 0;
  std::mutex mutex_;
  std::list<Watched*> calls_;
  std::string last_failure_;
  std::mt19937_64 random_;
  std::jthread watching_;
};

}  // namespace turns
