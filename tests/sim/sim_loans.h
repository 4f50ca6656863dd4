// Memory that a simulated program lends to its engine, as an agent lends a program's ring. What came back is overwritten at once,
// so that whoever still reads it, or reads too late, sees nonsense (a liar's bytes are changed earlier: each may arrive as it was or as its complement); what was delivered is compared once more before its room is given back.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "stp/engine.h"
#include "tests/sim/sim_storage.h"

namespace stp::sim {

// A ring: counters only go up, the place of a counter is its rest.
class SimRing {
 public:
  static constexpr std::size_t kBytes = 2 * kExtentBytes;
  explicit SimRing(bool unruly = false) : memory_(std::make_shared<Memory>()) {
    if (unruly) memory_->unruly.emplace(ConstBytes(memory_->bytes));
  }
  std::byte* at(std::uint64_t counter) const { return memory_->bytes + counter % kBytes; }
  // What lies together from `counter` on, at most `most`.
  Bytes piece(std::uint64_t counter, std::size_t most) const { return {at(counter), std::min<std::size_t>(most, kBytes - counter % kBytes)}; }
  Keeper keeper() const { return memory_; }
  void spoil(std::uint64_t from, std::uint64_t to) const {
    for (; from < to; ++from) *at(from) = std::byte{0xa5};
  }

 private:
  struct Memory {
    alignas(kExtentBytes) std::byte bytes[kBytes];
    std::optional<UnrulyMemory> unruly;
  };
  std::shared_ptr<Memory> memory_;
};

class SimLender {
 public:
  struct Manners {
    bool copies_little = false;  // as an agent does: a little is lent only behind what is
    bool lies = false;           // changes bytes that it lent
  };
  explicit SimLender(Manners manners) : manners_(manners), ring_(manners.lies) {}
  // The program writes up to `most` bytes: fill(offset in the stream, where to).
  void write(std::size_t most, const std::function<void(std::uint64_t, Bytes)>& fill);
  std::uint64_t written() const { return written_; }
  bool lies() const { return manners_.lies; }
  std::uint64_t moved() const { return moved_; }
  // Hands over what lies together next. 0: there is nothing, or the engine wants none of it now.
  SocketResult<std::size_t> move(Engine& engine, SocketId socket, std::size_t most, Nanos now);

 private:
  void take_back(const Engine& engine, SocketId socket);
  void lie();
  Manners manners_;
  std::uint32_t moves_ = 0;
  SimRing ring_;
  std::uint64_t written_ = 0, moved_ = 0, free_ = 0;  // counters: below free_ is the program's again
};

class SimLanding {
 public:
  SimLanding() : room_(std::make_shared<Room>()) {}
  std::shared_ptr<Landing> room() const { return room_; }
  // Where receive() is to put bytes, at most `most` of them; empty when the program has to read first.
  Bytes next(std::size_t most) const;
  void received(std::size_t bytes);
  // The program reads up to `most`. False: what was delivered has changed since.
  bool read(std::size_t most);
  std::uint64_t unread() const { return room_->tail - room_->head; }

 private:
  struct Room final : Landing {
    std::byte* place(std::uint64_t ahead, std::size_t bytes) override;
    SimRing ring;
    std::uint64_t tail = 0, head = 0;
  };
  std::shared_ptr<Room> room_;
  std::vector<std::byte> delivered_ = std::vector<std::byte>(SimRing::kBytes);
};

}  // namespace stp::sim
